"""What one compiled training for many runs gains, and what vmapping it adds.

    cd examples && python -m benchmark.vmap_gain

Seconds a run of each task, in three ways: compiled anew for each run, as a script that
is started again for each base rate does; compiled once, with base rate and seed as
arguments; and compiled once and vmapped over all runs. ``run.VMAPPED`` follows from it.
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
METHODS = ("fixed", "trend", "autotune")  # autotune's conditionals become selects


def seconds(function, *args) -> float:
    """Of one call."""
    start = time.perf_counter()
    jax.block_until_ready(function(*args))
    return time.perf_counter() - start


def measure(task: tasks.Task, method: str) -> dict[str, float]:
    """Seconds a run, by way."""
    train = training.make_training(task, "adam", method)
    rates, seeds = jnp.full(RUNS, 1e-3), jnp.arange(RUNS)
    alone, together = jax.jit(train), jax.jit(jax.vmap(train))
    first_alone, first_together = (
        seconds(alone, rates[0], 0),
        seconds(together, rates, seeds),
    )
    # The least of two, since the machine may be doing other work.
    one = min(seconds(alone, rates[0], 0) for _ in range(2))
    all_runs = min(seconds(together, rates, seeds) for _ in range(2))
    ways = {
        "compiled each time": first_alone,
        "compiled once": (first_alone - one) / RUNS + one,
        "vmapped": first_together / RUNS,
        "compiled once, without compilation": one,
        "vmapped, without compilation": all_runs / RUNS,
    }
    return {name: round(value, 4) for name, value in ways.items()}


def main() -> None:
    """Measures all tasks and writes the lines."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tasks", nargs="+", default=list(tasks.TASKS))
    parser.add_argument("--data-dir", type=Path, default=prepared.default_dir())
    args = parser.parse_args()
    config = {"runs": RUNS, "base_rate": 1e-3, "optimizer": "adam"}
    lines = [run.header(config, 0.0)]
    for name in args.tasks:
        task = run.make_task(name, args.data_dir)
        for method in METHODS:
            lines.append({"task": name, "method": method} | measure(task, method))
            print(lines[-1], flush=True)
    RESULTS.write_text("".join(json.dumps(line) + "\n" for line in lines))


if __name__ == "__main__":
    main()
