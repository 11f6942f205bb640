"""Each default of autotune against others, in the form of robustness.py.

    python examples/benchmark/ablation.py --data-dir ../shared/tfds

A variant sets constants of the library's modules before the run is traced. Rows with
the method's name ``autotune: VARIANT`` are appended to results/ablation.jsonl.
"""

import argparse
import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import robustness
import tasks

from optax_adaptive import _alarm, _autotune, _hold, _search

RESULTS = Path(__file__).with_name("results") / "ablation.jsonl"


def _budget(
    total_steps: int | None,
    original: Callable[[int | None], _search.Budget] = _search.budget,
    *,
    arms: float = 1.0,
    climb: float = 1.0,
) -> _search.Budget:
    budget = original(total_steps)
    return _search.Budget(
        int(arms * budget.arm_steps), int(climb * budget.steps_per_decade)
    )


# By name: the constants that differ, as (module, constant, value).
VARIANTS = {
    "default": [],
    "fraction 0.1": [(_search, "LONG_OVER_SHORT", 0.1)],
    "fraction 0.4": [(_search, "LONG_OVER_SHORT", 0.4)],
    "two arms": [(_search, "NUM_ARMS", 2)],
    "averaging 0.02": [(_autotune, "AVERAGING", 0.02)],
    "averaging 0.2": [(_autotune, "AVERAGING", 0.2)],
    "cool-down 0.4": [(_hold, "COOL_DOWN", 0.4)],
    "cool-down 1 (linear)": [(_hold, "COOL_DOWN", 1.0)],
    "no trials": [(_hold, "FIRST_TRIAL", 10**6)],
    "no alarm": [(_alarm, "WARM_UP", 10**9)],
    "alarm at half the rise": [(_alarm, "RISE", 1.25), (_alarm, "DRIFT", 2.0)],
    "climb twice as fast": [(_search, "budget", partial(_budget, climb=0.5))],
    "arms half as long": [(_search, "budget", partial(_budget, arms=0.5))],
    "arms twice as long": [(_search, "budget", partial(_budget, arms=2.0))],
}


def main() -> None:
    """Runs what is asked for and is not there yet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", nargs="+", default=["digits", "lstm", "demand"])
    parser.add_argument("--optimizers", nargs="+", default=["adam"])
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS))
    parser.add_argument("--methods", nargs="+", default=["autotune"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--data-dir", default="../shared/tfds")
    parser.add_argument("--output", type=Path, default=RESULTS)
    args = parser.parse_args()
    done = set()
    if args.output.exists():
        rows = map(json.loads, args.output.read_text().splitlines())
        done = {
            (row["task"], row["optimizer"], row["method"])
            for row in rows
            if "header" not in row
        }
    with args.output.open("a") as output:
        config = {"tasks": args.tasks, "seeds": args.seeds, "base_rate": 1e-3}
        print(json.dumps(robustness.header(config)), file=output, flush=True)
        for name in args.tasks:
            task = tasks.make(name, args.data_dir)
            for optimizer in args.optimizers:
                for method in args.methods:
                    for variant in args.variants:
                        label = f"{method}: {variant}"
                        if (name, optimizer, label) in done:
                            continue
                        rows = run_variant(task, method, optimizer, variant, args.seeds)
                        for row in rows:
                            row |= {
                                "task": name,
                                "optimizer": optimizer,
                                "method": label,
                            }
                            print(json.dumps(row), file=output, flush=True)
                        print(name, optimizer, label, file=sys.stderr, flush=True)


def run_variant(
    task: tasks.Task, method: str, optimizer: str, variant: str, seeds: int
) -> list[dict]:
    """Runs one variant over seeds, with the constants put back afterwards."""
    constants = VARIANTS[variant]
    saved = [(module, name, getattr(module, name)) for module, name, _ in constants]
    try:
        for module, name, value in constants:
            setattr(module, name, value)
        run = robustness.make_run(task, method, optimizer)
        rows = []
        for seed in range(seeds):
            metrics, found = run(jnp.float32(1e-3), seed)
            rows.append(
                {
                    "base_rate": 1e-3,
                    "seed": seed,
                    "steps": task.steps,
                    "metrics": [float(f"{m:.5g}") for m in np.asarray(metrics)],
                    "found": {k: float(v) for k, v in found.items()},
                }
            )
        return rows
    finally:
        for module, name, value in saved:
            setattr(module, name, value)


if __name__ == "__main__":
    main()
