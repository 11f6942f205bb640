"""Each default of autotune against others, in the form of run.py.

    cd examples && python -m benchmark.studies.ablation.run

A variant is autotune's composition with other settings. Rows with the method's name
``autotune: VARIANT`` are appended to results.jsonl.
"""

import argparse
import itertools
import sys
from pathlib import Path

from benchmark import records, run
from benchmark.studies.ablation.variants import composed, variants
from benchmark.tasks import TASKS
from benchmark.training import EPOCHS, Array, Build
from data import prepared
from methods import optimizers, rules
from methods.method import Method
from methods.method import Plan as MethodPlan

METHODS = ("autotune", "autotune_interpolated")

KEEPS = ("found_scale", "rollbacks")

RESULTS = Path(__file__).with_name("results.jsonl")


def builder(method: str, name: str, optimizer: str) -> Build:
    """Makes a variant of a method."""
    interpolates, has_total_steps = rules.AUTOTUNE[method]
    variant = variants(method)[name]

    def build(rate: Array, steps: int, seed: Array) -> Method:
        del seed
        bases = optimizers.OPTIMIZERS[optimizer], optimizers.WITHOUT_MOMENTUM[optimizer]
        plan = MethodPlan(*bases, rate, steps, steps // EPOCHS)
        is_bare = interpolates and not variant.has_momentum
        base = plan.bare if is_bare else plan.base
        tx = composed(
            base(plan.learning_rate),
            variant,
            total_steps=plan.steps if has_total_steps else None,
            interpolate=interpolates,
        )
        return rules.autotuned(plan, tx)

    return build


def main() -> None:
    """Runs what is asked for and is not there yet."""
    parser = argparse.ArgumentParser(description=__doc__)
    default = ["digits", "lstm", "demand"]
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=default)
    choices = optimizers.OPTIMIZERS
    parser.add_argument("--optimizers", nargs="+", choices=choices, default=["adam"])
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--data-dir", type=Path, default=prepared.default_dir())
    parser.add_argument("--output", type=Path, default=RESULTS)
    args = parser.parse_args()
    done = records.done(args.output)
    everything = [
        (*group, variant)
        for group in itertools.product(args.tasks, args.optimizers, args.methods)
        for variant in variants(group[-1])
    ]
    with records.open_to_append(args.output) as output:
        for task, optimizer, method, variant in everything:
            label = f"{method}: {variant}"
            runs = tuple(
                (1e-3, seed)
                for seed in range(args.seeds)
                if (task, optimizer, label, 1e-3, seed) not in done
            )
            if not runs:
                continue
            group = run.Group(task, optimizer, label, runs, args.data_dir, KEEPS)
            build = builder(method, variant, optimizer)
            records.write(output, run.run_group(group, build))
            print(task, optimizer, label, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
