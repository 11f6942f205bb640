"""autotune on small tasks drawn from a key, against a cosine tuned on each kind.

    cd examples && python -m benchmark.drawn

The kinds of ``gain.py``: other networks, data, optimizers, batches and lengths than the
tasks of the comparison. A line of results/drawn.jsonl is a kind under a form of
autotune (base rate 1e-3) or under cosines, nine rates, three a decade: final validation
losses.
"""

import argparse
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmark.constants import replaced
from benchmark.gain import KINDS
from benchmark.run import fill
from benchmark.tables import markdown
from optax_adaptive import _correction, autotune, eval_params
from policy import kinds, rollout

RESULTS = Path(__file__).with_name("results") / "drawn.jsonl"
DRAWS, KEY = 4, 777
OFFSETS = np.arange(-4, 5) / 3.0  # of the cosines, in decades
WITHOUT_MOMENTUM: dict[str, Any] = {
    **kinds.OPTIMIZERS,
    "adam": partial(optax.adam, b1=0.0),
    "adamw": partial(optax.adamw, b1=0.0, weight_decay=0.1),
    "momentum": optax.sgd,
    "lion": partial(optax.lion, b1=0.0),
    "nadam": partial(optax.adam, b1=0.0),
}
# By name: interpolate, whether the length is known, constants that differ.
NEVER_CORRECTED = [(_correction, "SHORTEST", 10**9)]
FORMS: dict[str, tuple[bool, bool, list]] = {
    "plain": (False, False, []),
    "plain, never corrected": (False, False, NEVER_CORRECTED),
    "interpolated": (True, False, []),
    "plain, length known": (False, True, []),
    "interpolated, length known": (True, True, []),
}


def autotuned(kind: kinds.Kind, interpolate: bool, knows: bool, key: jax.Array):
    """Final validation loss of the averaged weights, () float32."""
    base = (WITHOUT_MOMENTUM if interpolate else kinds.OPTIMIZERS)[kind.optimizer]
    tx = autotune(
        base(1e-3),
        total_steps=kind.steps if knows else None,
        interpolate=interpolate,
    )
    params, problem, state = rollout.train(kind, tx, key)
    return rollout.final(problem, eval_params(state, params))


def run(kind: kinds.Kind, form: str) -> dict[str, Any]:
    """(draws,) losses of a form of autotune, or (draws, offsets) of the cosines."""
    rounded = np.vectorize(lambda x: float(f"{x:.4g}"))
    return {"losses": rounded(losses(kind, form)).tolist()}


def losses(kind: kinds.Kind, form: str) -> np.ndarray:
    """The same, as they are."""
    keys = jnp.stack([jax.random.fold_in(jax.random.key(KEY), i) for i in range(DRAWS)])
    if form == "cosine":
        over_offsets = rollout.try_cosines(kind)
        return np.stack([over_offsets(jnp.float32(OFFSETS), key) for key in keys])
    interpolate, knows, constants = FORMS[form]
    with replaced(constants):
        return np.asarray(
            jax.jit(jax.vmap(partial(autotuned, kind, interpolate, knows)))(keys)
        )


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
