"""autotune and learned on transfer tasks, against tuned cosines.

    cd examples && python -m benchmark.studies.transfer_tasks.run

A line of results.jsonl is a training of ``trainings.py`` under a form of autotune or
learned (base rate 1e-3, total_steps not given) or under cosines, eleven rates, two a
decade: final losses on data kept apart.
"""

import argparse
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmark.records import fill, numbers
from benchmark.studies import forms
from benchmark.studies.transfer_tasks.trainings import TRAININGS, Training
from benchmark.tables import beside, markdown
from optax_adaptive import eval_params
from policy import rollout

RESULTS = Path(__file__).with_name("results.jsonl")
SAMPLES, KEY = 4, 31337
RATES = np.logspace(-4, 1, 11)  # of the cosines

LEAST = 1e-7  # a loss below counts as that
SMALLEST = 1e-300  # and without that bound, so that 0 has a logarithm, as that
LARGEST = 1.0  # of a log ratio in the clipped mean, up and down

CAPTION = (
    "Transfer tasks: all were drawn up before any was run. Loss over that of the tuned "
    "cosine, and geometric means of that; in the clipped mean no training counts for "
    "more than e times the cosine's loss, or for less than 1/e of it. A loss below "
    f"{LEAST:g} counts as that; in square brackets is the figure without that bound, "
    "where it is another."
)

FORMS = {
    name: forms.FORMS[name]
    for name in ("plain", "interpolated", "learned", "learned, interpolated")
}


def cosine(training: Training, rate: jax.Array, key: jax.Array) -> jax.Array:
    """Final loss under a cosine to 0, () float32."""
    schedule = optax.cosine_decay_schedule(1.0, training.steps)
    tx = optax.chain(training.make(rate), optax.scale_by_schedule(schedule))
    tx = optax.with_extra_args_support(tx)
    params, problem, _ = rollout.train(training.problem, training.steps, tx, key)
    return rollout.final(problem, params)


def feedback(training: Training, form: forms.Form, key: jax.Array) -> jax.Array:
    """Final loss of the averaged weights, () float32."""
    base = training.make(1e-3, has_momentum=not form.interpolates)
    tx = form.make(base, total_steps=None, interpolate=form.interpolates)
    params, problem, state = rollout.train(training.problem, training.steps, tx, key)
    return rollout.final(problem, eval_params(state, params))


def run(training: Training, form: str) -> dict[str, Any]:
    """(tasks,) losses of a form, or (tasks, rates) of the cosines."""
    keys = forms.keys(KEY, SAMPLES)
    if form == "cosine":
        over_rates = jax.vmap(partial(cosine, training), (0, None))
        losses = jax.jit(jax.vmap(over_rates, (None, 0)))(jnp.float32(RATES), keys)
    else:
        losses = jax.jit(jax.vmap(partial(feedback, training, FORMS[form])))(keys)
    return {"losses": numbers(losses, 4)}


def table(lines: list[dict[str, Any]]) -> str:
    """Markdown: the tuned cosine, and what each form's loss is over that."""
    losses: dict[str, dict[str, np.ndarray]] = {}
    for line in lines:
        found = losses.setdefault(line["training"], {})
        found[line["form"]] = np.array(line["losses"])
    rows = []
    above: list[list[np.ndarray]] = [[], []]  # log ratios, from either least loss
    for training, found in losses.items():
        if not found.keys() >= {"cosine", *FORMS}:
            continue  # not run to the end yet
        tuned = []
        for ratios, least in zip(above, (LEAST, SMALLEST), strict=True):
            logs = {form: np.log(np.maximum(x, least)) for form, x in found.items()}
            cosines = logs["cosine"].mean(0)
            best = cosines.argmin()
            ratios.append(np.array([logs[form].mean() for form in FORMS]))
            ratios[-1] -= cosines[best]
            tuned.append(f"{np.exp(cosines[best]):.3g} ({RATES[best]:.0e})")
        cells = factors(*(ratios[-1] for ratios in above))
        rows.append([training, beside(*tuned), *cells])
    clipped = np.clip(above[0], -LARGEST, LARGEST).mean(0)
    for name, cells in (
        ("mean", factors(*(np.mean(ratios, 0) for ratios in above))),
        ("mean, clipped", factors(clipped, clipped)),
        ("median", factors(*(np.median(ratios, 0) for ratios in above))),
        ("worst", factors(*(np.max(ratios, 0) for ratios in above))),
    ):
        rows.append([f"**{name}**", "", *cells])
    header = ["training", "tuned cosine (rate)", *FORMS]
    return f"{CAPTION}\n\n{markdown(header, rows)}"


def factors(bounded: np.ndarray, unbounded: np.ndarray) -> list[str]:
    """Cells from log ratios."""
    pairs = zip(np.exp(bounded), np.exp(unbounded), strict=True)
    return [beside(*(f"{x:.3g}" for x in pair)) for pair in pairs]


def main() -> None:
    """Runs what is not there yet, and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=RESULTS)
    output = parser.parse_args().output
    jobs = [
        ((name, form), partial(run, training, form))
        for name, training in TRAININGS.items()
        for form in ("cosine", *FORMS)
    ]
    print(table(fill(output, ("training", "form"), jobs)))


if __name__ == "__main__":
    main()
