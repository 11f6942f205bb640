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
from benchmark.tables import markdown
from optax_adaptive import eval_params
from policy import rollout

RESULTS = Path(__file__).with_name("results.jsonl")
SAMPLES, KEY = 4, 31337
RATES = np.logspace(-4, 1, 11)  # of the cosines

LEAST = 1e-7  # what is below counts as that

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
    logs: dict[str, dict[str, np.ndarray]] = {}
    for line in lines:
        found = logs.setdefault(line["training"], {})
        found[line["form"]] = np.log(np.maximum(line["losses"], LEAST))
    rows, above = [], []
    for training, found in logs.items():
        if not found.keys() >= {"cosine", *FORMS}:
            continue  # not run to the end yet
        cosines = found["cosine"].mean(0)
        best = cosines.argmin()
        above.append([found[form].mean() - cosines[best] for form in FORMS])
        cells = [f"{factor:.3g}" for factor in np.exp(above[-1])]
        tuned = f"{np.exp(cosines[best]):.3g} ({RATES[best]:.0e})"
        rows.append([training, tuned, *cells])
    for name, of in (("mean", np.mean), ("median", np.median), ("worst", np.max)):
        # None counts for more than e times the cosine, or less than that part of it.
        cells = [f"{x:.3g}" for x in np.exp(of(np.clip(above, -1.0, 1.0), 0))]
        rows.append([f"**{name}**", "", *cells])
    return markdown(["training", "tuned cosine (rate)", *FORMS], rows)


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
