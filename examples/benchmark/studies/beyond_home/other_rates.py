r"""What another rate than autotune's would give: the most that any correction can win.

    cd examples && python -m benchmark.studies.beyond_home.other_rates --tasks diffusion

Runs of autotune whose rate is multiplied by a factor, once: the rate found, which
*maintain* then corrects (*found*) or which is kept to the end (*kept*); or the rate in
force after a quarter of the run (*later*). The best factor of each task is what a rule
would choose that knew the end. A line of other_rates.jsonl is a run, and what is there
is not run again; the table is of means over seeds.
"""

import argparse
import time
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import optax_adaptive
from benchmark import records, training
from benchmark.studies.beyond_home import methods
from benchmark.studies.beyond_home.run import (
    CHECKPOINTS,
    as_row,
    make_training,
    value,
)
from benchmark.studies.beyond_home.tasks import TRAININGS
from benchmark.studies.beyond_home.tasks.training import Training
from benchmark.tables import markdown
from benchmark.tasks.task import Array
from data import prepared
from methods.method import FRACTION, Method
from methods.rules import AUTOTUNE
from optax_adaptive import controllers

RESULTS = Path(__file__).with_name("other_rates.jsonl")
KEY = ("task", "method", "kind", "factor", "seed")
KINDS = ("found", "kept", "later")
FACTORS = (0.25, 0.5, 1.0, 2.0, 4.0)
LATER = 0.25  # of the run


def multiplied_found(rule: Any, factor: Array) -> Any:
    """A search that hands over its rate times ``factor``."""

    def update(observation, state):
        log_scale, new = rule.update(observation, state)
        is_found = (state.found.log_scale == 0.0) & (new.found.log_scale != 0.0)
        more = jnp.where(is_found, jnp.log(factor), 0.0)
        found = new.found._replace(log_scale=new.found.log_scale + more)
        return log_scale, new._replace(found=found)

    return rule._replace(update=update)


def multiplied_later(rule: Any, factor: Array, step: int) -> Any:
    """A rule whose rate is multiplied by ``factor`` from ``step`` on, unseen by it."""

    def extra(at):
        return jnp.where(at >= step, jnp.log(factor), 0.0)

    def update(observation, state):
        seen = observation.log_scale - state[1]
        log_scale, inner = rule.update(observation._replace(log_scale=seen), state[0])
        more = extra(observation.step)
        return log_scale + more, (inner, more)

    return rule._replace(
        init=lambda: (rule.init(), jnp.zeros((), jnp.float32)),
        update=update,
        request=lambda state: rule.request(state[0]),
    )


def build(
    subject: Training, method: str, kind: str, factor: Array, steps: int
) -> Method:
    """autotune, as the composition that it is, with its rate multiplied."""
    _, is_told = AUTOTUNE[method]
    total_steps = steps if is_told else None
    search = multiplied_found(controllers.search(total_steps), factor)
    if kind == "found":
        rule = controllers.then(search, controllers.maintain(total_steps))
    elif kind == "kept":
        rule = controllers.then(search, controllers.constant())
    else:
        step = round(LATER * steps)
        rule = multiplied_later(controllers.tuned(total_steps), factor, step)
    rule = optax_adaptive.scale_by_controller(rule, min_scale=1e-30, max_scale=1e30)
    tx = optax.chain(subject.optimizer(methods.BASE_RATE), rule)
    tx = optax_adaptive.with_rollback(tx, backoff=1.0, restore_inner=False)
    tx = optax_adaptive.with_averaging(tx, fraction=FRACTION)
    if subject.labels is not None:
        groups: dict[Any, Any] = {"train": tx, "frozen": optax.set_to_zero()}
        tx = optax.partition(groups, subject.labels)

    def pair(state, params):
        return params, optax_adaptive.eval_params(state, params)

    def rate(state, step):
        return methods.BASE_RATE * optax_adaptive.lr_scale(state)

    return Method(optax.with_extra_args_support(tx), rate, pair)


def make_run(subject: Training, method: str, kind: str) -> Any:
    """A run from factor and seed, to be jitted."""

    def evaluate(pair, split):
        return jnp.stack([subject.task.evaluate(params, split) for params in pair])

    return training.training_of(
        subject.task._replace(evaluate=evaluate),
        lambda factor, steps, seed: build(subject, method, kind, factor, steps),
        autotunes=True,
        checkpoints=CHECKPOINTS,
    )


def runs(flags: Any, task: str, method: str, kind: str) -> Iterator[dict[str, Any]]:
    """Makes and yields the rows that are missing."""
    subject = make_training(task, flags.data_dir)
    run = jax.jit(make_run(subject, method, kind))
    done = {tuple(row[name] for name in KEY) for row in records.rows(flags.output)}
    for seed in flags.seeds:
        for factor in FACTORS:
            names = dict(zip(KEY, (task, method, kind, factor, seed), strict=True))
            if tuple(names.values()) not in done:
                start = time.perf_counter()
                trace = jax.device_get(run(jnp.float32(factor), jnp.int32(seed)))
                seconds = round(time.perf_counter() - start, 1)
                yield names | as_row(trace, subject.task) | {"seconds": seconds}


def table(rows: list[dict[str, Any]]) -> str:
    """Percent by which the loss of the average exceeds that at factor 1."""
    average = methods.Entry("", methods.AVERAGED)
    losses = {tuple(row[name] for name in KEY): value(row, average) for row in rows}
    groups = dict.fromkeys(key[:3] for key in losses)
    lines = []
    for group in groups:
        seeds = sorted({key[4] for key in losses if key[:3] == group})
        cells = []
        for factor in FACTORS:
            differences = np.array(
                [
                    100.0
                    * np.log(
                        losses[(*group, factor, seed)] / losses[(*group, 1.0, seed)]
                    )
                    for seed in seeds
                    if (*group, factor, seed) in losses
                ]
            )
            cells.append(plus_minus(differences) if factor != 1.0 else "0")
        lines.append([*group, str(len(seeds)), *cells])
    header = ["task", "method", "rate", "seeds", *(f"x {x:g}" for x in FACTORS)]
    return markdown(header, lines)


def plus_minus(differences: Any) -> str:
    """Mean and standard error."""
    error = differences.std(ddof=1) / len(differences) ** 0.5
    return f"{differences.mean():+.1f} ± {error:.1f}"


def main() -> None:
    """Makes what is missing, and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", nargs="*", default=(), choices=TRAININGS)
    parser.add_argument("--methods", nargs="+", default=("autotune_anytime",))
    parser.add_argument("--kinds", nargs="+", default=KINDS, choices=KINDS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--data-dir", type=Path, default=prepared.default_dir())
    parser.add_argument("--output", type=Path, default=RESULTS)
    flags = parser.parse_args()
    for task in flags.tasks:
        for method, kind in product(flags.methods, flags.kinds):
            with records.open_to_append(flags.output) as file:
                for number, row in enumerate(runs(flags, task, method, kind)):
                    if number == 0:
                        config = {"study": "other_rates", "later": LATER}
                        records.write(file, [records.header(config, 0.0)])
                    records.write(file, [row])
                    print(*(row[name] for name in KEY), row["validation"], flush=True)
    print(table(records.rows(flags.output)))


if __name__ == "__main__":
    main()
