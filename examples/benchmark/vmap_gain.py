"""What one compiled training for many runs gains, and what vmapping it adds.

    cd examples && python -m benchmark.vmap_gain

Seconds of processor time a run of each task, in three ways: compiled anew for each run,
as a script that is started again for each base rate does; compiled once, with base rate
and seed as arguments; and compiled once and vmapped over all runs.
"""

import argparse
import json
import time
from pathlib import Path

import jax
import jax.numpy as jnp

from benchmark import run, tasks, training
from common import prepared

RESULTS = Path(__file__).with_name("results") / "vmap_gain.jsonl"
RUNS = 12
METHODS = ("fixed", "autotune")  # autotune's conditionals become selects


def seconds(function, *args) -> float:
    """Of one call: processor time, which a busy machine changes little."""
    start = time.process_time()
    jax.block_until_ready(function(*args))
    return time.process_time() - start


def measure(task: tasks.Task, method: str) -> dict[str, float]:
    """Seconds a run, by way."""
    train = training.make_training(task, "adam", method)
    rates, seeds = jnp.full(RUNS, 1e-3), jnp.arange(RUNS)
    alone, together = jax.jit(train), jax.jit(jax.vmap(train))
    first_alone, first_together = (
        seconds(alone, rates[0], 0),
        seconds(together, rates, seeds),
    )
    one, all_runs = seconds(alone, rates[0], 0), seconds(together, rates, seeds)
    ways = {
        "compiled each time": first_alone,
        "compiled once": (first_alone - one) / RUNS + one,
        "vmapped": first_together / RUNS,
        "compiled once, without compilation": one,
        "vmapped, without compilation": all_runs / RUNS,
    }
    return {name: round(value, 4) for name, value in ways.items()}


def main() -> None:
    """Measures what is not there yet, and appends it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--tasks", nargs="+", choices=tasks.TASKS, default=list(tasks.TASKS)
    )
    parser.add_argument("--data-dir", type=Path, default=prepared.default_dir())
    args = parser.parse_args()
    done = {(line.get("task"), line.get("method")) for line in run.read(RESULTS)}
    config = {"runs": RUNS, "base_rate": 1e-3, "optimizer": "adam"}
    with RESULTS.open("a") as output:
        print(json.dumps(run.header(config, 0.0)), file=output, flush=True)
        for name in args.tasks:
            for method in METHODS:
                if (name, method) not in done:
                    task = run.make_task(name, args.data_dir)
                    line = {"task": name, "method": method} | measure(task, method)
                    print(json.dumps(line), file=output, flush=True)


if __name__ == "__main__":
    main()
