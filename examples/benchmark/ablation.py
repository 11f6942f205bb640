"""Each default of autotune against others, in the form of run.py.

    cd examples && python -m benchmark.ablation

A variant sets constants of the library's modules before the run is traced. Rows with
the method's name ``autotune: VARIANT`` are appended to results/ablation.jsonl.
"""

import argparse
import itertools
import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from benchmark import run
from benchmark.constants import replaced
from benchmark.tasks import TASKS
from common import methods, prepared
from optax_adaptive import _alarm, _autotune, _correction, _hold, _noise_cost, _search

METHODS = ("autotune", "autotune_interpolated")
RESULTS = Path(__file__).with_name("results") / "ablation.jsonl"


def _budget(
    total_steps: int | None,
    interpolates: bool,
    original: Callable[[int | None, bool], _search.Budget] = _search.budget,
    *,
    arms: float = 1.0,
    climb: float = 1.0,
) -> _search.Budget:
    budget = original(total_steps, interpolates)
    return budget._replace(
        arm_steps=int(arms * budget.arm_steps),
        steps_per_decade=int(climb * budget.steps_per_decade),
    )


# By name: the constants that differ, as (module, constant, value).
VARIANTS = {
    "default": [],
    "fraction 0.1": [(_search, "LONG_OVER_SHORT", 0.1)],
    "fraction 0.4": [(_search, "LONG_OVER_SHORT", 0.4)],
    "the third arm always below": [(_search, "CLEARLY", 1e9)],
    "the first arm √10 below the edge": [(_search, "FIRST_ARM", 1.0)],
    "the first arm 10 below the edge": [(_search, "FIRST_ARM", 2.0)],
    "arms 2 apart": [(_search, "ARM_RATIO", 2.0), (_search, "FIRST_ARM", 2.5)],
    "arms 10 apart": [(_search, "ARM_RATIO", 10.0), (_search, "FIRST_ARM", 0.75)],
    "never corrected": [(_correction, "SHORTEST", 10**9)],
    "never raised": [(_correction, "LOW", 0.0)],
    "lowered by a rise alone": [(_correction, "HIGH", 1e9)],
    "cost over fall 0.1 to 0.5": [
        (_correction, "LOW", 0.1),
        (_correction, "HIGH", 0.5),
    ],
    "cost over fall 0.5 to 2": [(_correction, "LOW", 0.5), (_correction, "HIGH", 2.0)],
    "corrected in full": [(_correction, "POWER", 1.0)],
    "no error allowed for": [(_correction, "Z", 0.0)],
    "cost measured at every step": [(_noise_cost, "EVERY", 1)],
    "never starts over": [(_hold, "PROBATION", 0.0)],
    "the way back not asked": [(_hold, "BACK_TO", 1.0)],
    "the way back down by 0.1": [(_correction, "BACK", 0.1)],
    "the way back down by 0.4": [(_correction, "BACK", 0.4)],
    "half the rate where it leads down": [(_hold, "BACK_TO", 0.5)],
    "a quarter where it leads down": [(_hold, "BACK_TO", 0.25)],
    "averaging 0.05": [(_autotune, "AVERAGING", 0.05)],
    "averaging 0.2": [(_autotune, "AVERAGING", 0.2)],
    "averaging 0.1 whatever noise costs": [(_correction, "WIDEST", 1.0)],
    "no alarm": [(_alarm, "WARM_UP", 10**9)],
    "alarm at half the rise": [(_alarm, "RISE", 1.25), (_alarm, "DRIFT", 2.0)],
    "the climb from 1e-5": [(_search, "CLIMB_FROM", 1e-5)],
    "the last short run never kept": [(_search, "KEPT", 1e-9)],
    "kept whatever its rate": [(_search, "KEPT", 1e9)],
    "climb twice as fast": [(_search, "budget", partial(_budget, climb=0.5))],
    "arms half as long": [(_search, "budget", partial(_budget, arms=0.5))],
    "arms twice as long": [(_search, "budget", partial(_budget, arms=2.0))],
}
# The same for gradients at an interpolation.
INTERPOLATED = {
    "default": [],
    "never corrected": [(_correction, "SHORTEST", 10**9)],
    "cost over fall 0.25 to 1": [(_correction, "HIGH_INTERPOLATED", 1.0)],
    "interpolation 0": [(_autotune, "INTERPOLATION", 0.0)],
    "interpolation 0.5": [(_autotune, "INTERPOLATION", 0.5)],
    "interpolation 0.8": [(_autotune, "INTERPOLATION", 0.8)],
    "interpolation 0.9": [(_autotune, "INTERPOLATION", 0.9)],
    "momentum as well": [(methods, "WITHOUT_MOMENTUM", methods.OPTIMIZERS)],
    "averaging 0.05": [(_autotune, "AVERAGING_INTERPOLATED", 0.05)],
    "averaging 0.4": [(_autotune, "AVERAGING_INTERPOLATED", 0.4)],
    "fraction 0.2": [(_search, "LONG_OVER_SHORT_INTERPOLATED", 0.2)],
    "fraction 0.8": [(_search, "LONG_OVER_SHORT_INTERPOLATED", 0.8)],
}


def variants(method: str) -> dict[str, list[tuple[Any, str, Any]]]:
    """Those of a method of autotune."""
    interpolates, _ = methods.AUTOTUNE[method]
    return INTERPOLATED if interpolates else VARIANTS


def run_variant(group: run.Group, variant: str) -> list[dict]:
    """The lines of a group, with the variant's constants while it is traced."""
    with replaced(variants(group.method)[variant]):
        lines = run.run_group(group)
    return [
        line if "header" in line else line | {"method": f"{group.method}: {variant}"}
        for line in lines
    ]


def main() -> None:
    """Runs what is asked for and is not there yet."""
    parser = argparse.ArgumentParser(description=__doc__)
    default = ["digits", "lstm", "demand"]
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=default)
    choices = methods.OPTIMIZERS
    parser.add_argument("--optimizers", nargs="+", choices=choices, default=["adam"])
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--data-dir", type=Path, default=prepared.default_dir())
    parser.add_argument("--output", type=Path, default=RESULTS)
    args = parser.parse_args()
    done = run.done(args.output)
    everything = [
        (*group, variant)
        for group in itertools.product(args.tasks, args.optimizers, args.methods)
        for variant in variants(group[-1])
    ]
    with run.open_to_append(args.output) as output:
        for task, optimizer, method, variant in everything:
            label = f"{method}: {variant}"
            runs = tuple(
                (1e-3, seed)
                for seed in range(args.seeds)
                if (task, optimizer, label, 1e-3, seed) not in done
            )
            if not runs:
                continue
            group = run.Group(task, optimizer, method, runs, args.data_dir)
            for line in run_variant(group, variant):
                print(json.dumps(line), file=output, flush=True)
            print(task, optimizer, label, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
