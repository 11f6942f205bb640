"""autotune and learned on tasks sampled from task families, against tuned cosines.

    cd examples && python -m benchmark.studies.sampled_tasks.run

The families of ``noise_ratio.py``: other networks, data, optimizers, batches and
lengths than the tasks of the comparison. A line of results.jsonl is a family under a
form of autotune or learned (base rate 1e-3) or under cosines, nine rates, three a
decade: final validation losses. The policy of learned was trained on all of these
families but those of ``families.HELD_OUT``, on other tasks of them.
"""

import argparse
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmark.records import fill, numbers
from benchmark.studies import forms
from benchmark.studies.forms import FORMS, Form
from benchmark.studies.sampled_tasks.noise_ratio import FAMILIES
from benchmark.tables import markdown
from methods.optimizers import without_momentum
from optax_adaptive import eval_params
from policy import families, rollout

RESULTS = Path(__file__).with_name("results.jsonl")
SAMPLES, KEY = 4, 777
OFFSETS = np.arange(-4, 5) / 3.0  # of the cosines, in decades


def tuned(family: families.Family, form: Form, key: jax.Array):
    """Final validation loss of the averaged weights, () float32."""
    base = families.OPTIMIZERS[family.optimizer]
    base = without_momentum(base) if form.interpolates else base
    tx = form.make(
        base(1e-3),
        total_steps=family.steps if form.knows_length else None,
        interpolate=form.interpolates,
    )
    sample = partial(families.sample, family)
    params, problem, state = rollout.train(sample, family.steps, tx, key)
    return rollout.final(problem, eval_params(state, params))


def run(family: families.Family, form: str) -> dict[str, Any]:
    """(tasks,) losses of a form, or (tasks, offsets) of the cosines."""
    return {"losses": numbers(losses(family, form), 4)}


def losses(family: families.Family, form: str) -> np.ndarray:
    """The same, as they are."""
    keys = forms.keys(KEY, SAMPLES)
    if form == "cosine":
        offsets = jnp.float32(OFFSETS)
        return np.stack([rollout.cosine_losses(family, offsets, key) for key in keys])
    return np.asarray(jax.jit(jax.vmap(partial(tuned, family, FORMS[form])))(keys))


def table(lines: list[dict[str, Any]]) -> str:
    """Markdown: log loss of each form above that of the tuned cosine, by family."""
    by_form: dict[str, dict[str, np.ndarray]] = {}
    for line in lines:
        found = by_form.setdefault(line["form"], {})
        found[line["family"]] = np.log(np.array(line["losses"]))
    cosines = by_form.pop("cosine")
    names = [form for form in FORMS if form in by_form]
    rows = []
    above: dict[str, list[float]] = {form: [] for form in names}
    for family, cosine in cosines.items():
        best = cosine.mean(0).min()
        for form in names:
            above[form].append(by_form[form][family].mean() - best)
        cells = [f"{100 * above[form][-1]:+.1f}%" for form in names]
        rows.append([family, *cells])
    for name, of in (("mean", np.mean), ("median", np.median), ("worst", np.max)):
        cells = [f"{100 * of(above[form]):+.1f}%" for form in names]
        rows.append([f"**{name}**", *cells])
    return markdown(["kind", *names], rows)


def main() -> None:
    """Runs what is not there yet, and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=RESULTS)
    output = parser.parse_args().output
    jobs = [
        ((name, form), partial(run, family, form))
        for form in ("cosine", *FORMS)
        for name, family in FAMILIES.items()
    ]
    print(table(fill(output, ("family", "form"), jobs)))


if __name__ == "__main__":
    main()
