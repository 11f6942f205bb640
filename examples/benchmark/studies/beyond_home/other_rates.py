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
from benchmark import records
from benchmark.studies.beyond_home import methods
from benchmark.studies.beyond_home.run import (
    as_row,
    make_training,
    run_of,
    value,
)
from benchmark.studies.beyond_home.tasks import TRAININGS
from benchmark.studies.beyond_home.tasks.training import Training
from benchmark.tables import markdown
from benchmark.tasks.task import Array
from data import prepared
from methods.method import FRACTION, Method, Plan
from methods.rules import autotuned
from optax_adaptive import controllers

RESULTS = Path(__file__).with_name("other_rates.jsonl")
KEY = ("task", "method", "kind", "factor", "seed")
METHOD = "autotune_anytime"
AVERAGE = methods.ENTRIES["autotune, no total_steps"]
KINDS = ("found", "kept", "later")
OTHERS = (0.25, 0.5, 2.0, 4.0)
FACTORS = (1.0, *OTHERS)
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

    def update(observation, state):
        inner, more = state
        seen = observation._replace(log_scale=observation.log_scale - more)
        log_scale, inner = rule.update(seen, inner)
        more = jnp.where(observation.step >= step, jnp.log(factor), 0.0)
        return log_scale + more, (inner, more)

    return rule._replace(
        init=lambda: (rule.init(), jnp.zeros((), jnp.float32)),
        update=update,
        request=lambda state: rule.request(state[0]),
    )


def build(subject: Training, kind: str, factor: Array, steps: int) -> Method:
    """autotune, as the composition that it is, without ``total_steps``; multiplied."""
    search = multiplied_found(controllers.search(), factor)
    if kind == "found":
        rule = controllers.then(search, controllers.maintain())
    elif kind == "kept":
        rule = controllers.then(search, controllers.constant())
    else:
        step = round(LATER * steps)
        rule = multiplied_later(controllers.tuned(), factor, step)
    rule = optax_adaptive.scale_by_controller(rule, min_scale=1e-30, max_scale=1e30)
    tx = optax.chain(subject.optimizer(methods.BASE_RATE), rule)
    tx = optax_adaptive.with_rollback(tx, backoff=1.0, restore_inner=False)
    tx = optax_adaptive.with_averaging(tx, fraction=FRACTION)
    plan = Plan(subject.optimizer, subject.optimizer, methods.BASE_RATE, steps, 1)
    return methods.evaluated_twice(subject, autotuned(plan, tx))


def runs(
    subject: Training, task: str, kind: str, seeds: list[int], done: set[tuple]
) -> Iterator[dict[str, Any]]:
    """Makes and yields the rows whose key is not in ``done``."""

    def made(factor, steps, seed):
        return build(subject, kind, factor, steps)

    run = jax.jit(run_of(subject, made, autotunes=True))
    for seed, factor in product(seeds, FACTORS):
        key = (task, METHOD, kind, factor, seed)
        if key not in done:
            start = time.perf_counter()
            trace = jax.device_get(run(jnp.float32(factor), jnp.int32(seed)))
            seconds = round(time.perf_counter() - start, 1)
            names = dict(zip(KEY, key, strict=True))
            yield names | as_row(trace, subject.task) | {"seconds": seconds}


def table(rows: list[dict[str, Any]]) -> str:
    """By how many percent the loss of the average exceeds that at factor 1."""
    logs: dict[tuple, dict[int, float]] = {}
    for row in rows:
        key = row["task"], row["kind"], row["factor"]
        loss = value(row, AVERAGE)
        logs.setdefault(key, {})[row["seed"]] = 100.0 * np.log(loss)
    lines = []
    for task, kind in dict.fromkeys(key[:2] for key in logs):
        own = {factor: logs[task, kind, factor] for factor in FACTORS}
        seeds = sorted(set.intersection(*map(set, own.values())))
        cells = []
        for factor in OTHERS:
            more = np.array([own[factor][seed] - own[1.0][seed] for seed in seeds])
            error = more.std(ddof=1) / np.sqrt(len(seeds))
            cells.append(f"{more.mean():+.1f} ± {error:.1f}")
        lines.append([task, kind, str(len(seeds)), *cells])
    header = ["task", "which", "seeds", *(f"x {factor:g}" for factor in OTHERS)]
    return markdown(header, lines)


def main() -> None:
    """Makes what is missing, and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", nargs="*", default=(), choices=TRAININGS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--data-dir", type=Path, default=prepared.default_dir())
    parser.add_argument("--output", type=Path, default=RESULTS)
    flags = parser.parse_args()
    done = {tuple(row[name] for name in KEY) for row in records.rows(flags.output)}
    for task, kind in product(flags.tasks, KINDS):
        subject = make_training(task, flags.data_dir)
        with records.open_to_append(flags.output) as file:
            for number, row in enumerate(runs(subject, task, kind, flags.seeds, done)):
                if number == 0:
                    config = {"study": "other_rates", "later": LATER}
                    records.write(file, [records.header(config, 0.0)])
                records.write(file, [row])
                print(*(row[name] for name in KEY), row["validation"], flush=True)
    print(table(records.rows(flags.output)))


if __name__ == "__main__":
    main()
