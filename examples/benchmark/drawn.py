"""autotune and learned on small tasks drawn from a key, against tuned cosines.

    cd examples && python -m benchmark.drawn

The kinds of ``gain.py``: other networks, data, optimizers, batches and lengths than the
tasks of the comparison. A line of results/drawn.jsonl is a kind under a form of
autotune or learned (base rate 1e-3) or under cosines, nine rates, three a decade: final
validation losses. The policy of learned was trained on all of these kinds but those of
``families.HELD_OUT``, on other draws.
"""

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmark.ablation import VARIANTS, composed
from benchmark.gain import KINDS
from benchmark.records import fill, numbers
from benchmark.tables import markdown
from methods.rules import LEARNED_INTERPOLATED
from optax_adaptive import (
    autotune,
    controllers,
    eval_params,
    scale_by_controller,
    with_averaging,
    with_rollback,
)
from policy import families, rollout

RESULTS = Path(__file__).with_name("results") / "drawn.jsonl"
DRAWS, KEY = 4, 777
NEVER = "never corrected"
OFFSETS = np.arange(-4, 5) / 3.0  # of the cosines, in decades
WITHOUT_MOMENTUM: dict[str, Any] = {
    **families.OPTIMIZERS,
    "adam": partial(optax.adam, b1=0.0),
    "adamw": partial(optax.adamw, b1=0.0, weight_decay=0.1),
    "momentum": optax.sgd,
    "lion": partial(optax.lion, b1=0.0),
    "nadam": partial(optax.adam, b1=0.0),
}


class Form(NamedTuple):
    """What a kind is trained with."""

    make: Callable[..., optax.GradientTransformationExtraArgs]  # as autotune
    interpolates: bool = False
    knows_length: bool = False


def learned(
    optimizer: optax.GradientTransformation,
    *,
    total_steps: int | None,
    interpolate: bool,
) -> optax.GradientTransformationExtraArgs:
    """As docs/learned.md has it."""
    options = LEARNED_INTERPOLATED if interpolate else {}
    rule = scale_by_controller(controllers.learned(total_steps))
    return with_averaging(with_rollback(optax.chain(optimizer, rule)), **options)


FORMS = {
    "plain": Form(autotune),
    "plain, never corrected": Form(partial(composed, variant=VARIANTS[NEVER])),
    "interpolated": Form(autotune, interpolates=True),
    "plain, length known": Form(autotune, knows_length=True),
    "interpolated, length known": Form(autotune, interpolates=True, knows_length=True),
    "learned": Form(learned),
    "learned, interpolated": Form(learned, interpolates=True),
}


def tuned(kind: families.Family, form: Form, key: jax.Array):
    """Final validation loss of the averaged weights, () float32."""
    bases = WITHOUT_MOMENTUM if form.interpolates else families.OPTIMIZERS
    tx = form.make(
        bases[kind.optimizer](1e-3),
        total_steps=kind.steps if form.knows_length else None,
        interpolate=form.interpolates,
    )
    draw = partial(families.sample, kind)
    params, problem, state = rollout.train(draw, kind.steps, tx, key)
    return rollout.final(problem, eval_params(state, params))


def run(kind: families.Family, form: str) -> dict[str, Any]:
    """(draws,) losses of a form, or (draws, offsets) of the cosines."""
    return {"losses": numbers(losses(kind, form), 4)}


def keys(key: int, count: int) -> jax.Array:
    """(count,) random keys, one a draw."""
    return jax.vmap(partial(jax.random.fold_in, jax.random.key(key)))(jnp.arange(count))


def losses(kind: families.Family, form: str) -> np.ndarray:
    """The same, as they are."""
    draws = keys(KEY, DRAWS)
    if form == "cosine":
        offsets = jnp.float32(OFFSETS)
        return np.stack([rollout.cosine_losses(kind, offsets, key) for key in draws])
    return np.asarray(jax.jit(jax.vmap(partial(tuned, kind, FORMS[form])))(draws))


def table(lines: list[dict[str, Any]]) -> str:
    """Markdown: log loss of each form above that of the tuned cosine, by kind."""
    by_form: dict[str, dict[str, np.ndarray]] = {}
    for line in lines:
        found = by_form.setdefault(line["form"], {})
        found[line["kind"]] = np.log(np.array(line["losses"]))
    cosines = by_form.pop("cosine")
    forms = [form for form in FORMS if form in by_form]
    rows = []
    above: dict[str, list[float]] = {form: [] for form in forms}
    for kind, cosine in cosines.items():
        best = cosine.mean(0).min()
        for form in forms:
            above[form].append(by_form[form][kind].mean() - best)
        cells = [f"{100 * above[form][-1]:+.1f}%" for form in forms]
        rows.append([kind, *cells])
    for name, of in (("mean", np.mean), ("median", np.median), ("worst", np.max)):
        cells = [f"{100 * of(above[form]):+.1f}%" for form in forms]
        rows.append([f"**{name}**", *cells])
    return markdown(["kind", *forms], rows)


def main() -> None:
    """Runs what is not there yet, and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=RESULTS)
    output = parser.parse_args().output
    jobs = [
        ((name, form), partial(run, kind, form))
        for form in ("cosine", *FORMS)
        for name, kind in KINDS.items()
    ]
    print(table(fill(output, ("kind", "form"), jobs)))


if __name__ == "__main__":
    main()
