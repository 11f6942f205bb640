"""Runs a plan into JSON lines; what is there already is not run again.

    cd examples && python -m benchmark.run --plan quick --jobs 2

A group is one task, optimizer and method: one compiled training, taken over all base
rates and seeds that are missing. Its lines begin with a header that says what produced
them. A run that ends with values that are not finite is a result too; a group that
raises an exception stops the command.
"""

import argparse
import time
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from benchmark import plans, records, tasks, training, workers
from benchmark.progress import Progress
from benchmark.training import Build
from data import prepared
from methods import registry

RESULTS = Path(__file__).with_name("results")
make_task = cache(lambda name, data_dir: tasks.TASKS[name](data_dir))


class Group(NamedTuple):
    """One compiled training, and the runs to make with it."""

    task: str
    optimizer: str
    method: str
    runs: tuple[tuple[float, int], ...]  # base rate, seed
    data_dir: Path
    keeps: tuple[str, ...] = ()  # what a row has beside its final metrics


def run_group(group: Group, build: Build | None = None) -> list[dict[str, Any]]:
    """The header and rows of a group.

    Args:
      group: What to run.
      build: Makes the method, a form of autotune, where it is not a registered one.

    Returns:
      Lines for the file.
    """
    start = time.perf_counter()
    # On a CPU one after another is as fast or faster (README.md).
    is_vmapped = jax.default_backend() != "cpu"
    task = make_task(group.task, group.data_dir)
    if build is None:
        train = training.make_training(task, group.optimizer, group.method)
    else:
        train = training.training_of(task, build, autotunes=True)
    rows = take(train, group.runs, is_vmapped, task.is_accuracy, group.keeps)
    config = group._asdict() | {"checkpoints": training.CHECKPOINTS}
    facts = ("steps", "steps_per_epoch", "is_accuracy", "unit")
    config |= {name: getattr(task, name) for name in facts} | {"vmapped": is_vmapped}
    del config["data_dir"], config["keeps"]
    names = {"task": group.task, "optimizer": group.optimizer, "method": group.method}
    for row, (rate, seed) in zip(rows, group.runs, strict=True):
        row |= names | {"base_rate": rate, "seed": seed}
    seconds = round(time.perf_counter() - start, 1)
    return [records.header(config, seconds), *rows]


def take(
    train: Any,
    runs: Iterable[tuple[float, int]],
    is_vmapped: bool,
    is_accuracy: bool = False,
    keeps: tuple[str, ...] = training.FIELDS,
) -> list[dict[str, Any]]:
    """Takes a training over base rates and seeds."""
    rates, seeds = zip(*runs, strict=True)
    is_first = [seed == 0 for seed in seeds]
    rates, seeds = jnp.array(rates, jnp.float32), jnp.array(seeds, jnp.int32)
    if is_vmapped:
        traces = jax.device_get(jax.jit(jax.vmap(train))(rates, seeds))
        each = [jax.tree.map(lambda x, i=i: x[i], traces) for i in range(len(seeds))]
    else:
        jitted = jax.jit(train)
        pairs = zip(rates, seeds, strict=True)
        each = [jax.device_get(jitted(*pair)) for pair in pairs]
    # The learning rates of the first seed stand for those of all.
    others = tuple(name for name in keeps if name != "learning_rate")
    return [
        training.as_row(trace, is_accuracy, keeps if first else others)
        for trace, first in zip(each, is_first, strict=True)
    ]


def missing(plan: plans.Plan, done: set[tuple], data_dir: Path) -> list[Group]:
    """The groups that still lack a run, with the runs that they lack."""
    groups = []
    for method in plan.methods:
        for optimizer in plan.optimizers:
            for task in plan.tasks:
                runs = tuple(
                    (rate, seed)
                    for rate in plan.rates(method, optimizer)
                    for seed in range(plan.seeds)
                    if (task, optimizer, method, rate, seed) not in done
                )
                if runs:
                    names = (task, optimizer, method)
                    groups.append(Group(*names, runs, data_dir, plan.kept(method)))
    return groups


def execute(plan: plans.Plan, output: Path, data_dir: Path, jobs: int | None) -> None:
    """Runs what ``output`` lacks of ``plan``, and appends it."""
    print(tasks.DEVELOPMENT, flush=True)
    for method in plan.methods:  # complain at once, where a group would only fail
        for optimizer in plan.optimizers:
            registry.build(method, optimizer, 1e-3, 400, 8)
    for name in plan.tasks:
        make_task(name, data_dir)
    groups = missing(plan, records.done(output), data_dir)
    if not groups:
        print(f"nothing to run: {output} has all of it")
        return
    with records.open_to_append(output) as file, Progress() as progress:
        progress.expect([1.0] * len(groups))
        for lines in workers.results(run_group, groups, jobs):
            records.write(file, lines)
            last = lines[-1]
            name = f"{last['method']} on {last['task']} ({last['optimizer']})"
            progress.tick(1.0, name)


def main(
    known: dict[str, plans.Plan] = plans.PLANS,
    default: str = "standard",
    folder: Path = RESULTS,
) -> None:
    """Reads the command line and runs the plan that it names."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--plan", choices=known, default=default)
    other = "fewer of the plan's, or other"
    parser.add_argument("--tasks", nargs="+", choices=tasks.TASKS, help=other)
    for name in ("optimizers", "methods"):
        parser.add_argument(f"--{name}", nargs="+", metavar="NAME", help=other)
    parser.add_argument("--base-rates", nargs="+", type=float)
    parser.add_argument("--seeds", type=int)
    parser.add_argument(
        "--jobs", type=int, help="processes; one a core, or one on an accelerator"
    )
    parser.add_argument("--data-dir", type=Path, default=prepared.default_dir())
    parser.add_argument("--output", type=Path, help="default: PLAN.jsonl")
    args = vars(parser.parse_args())
    name, jobs, data_dir = args.pop("plan"), args.pop("jobs"), args.pop("data_dir")
    output = args.pop("output") or folder / f"{name}.jsonl"
    chosen = {field: value for field, value in args.items() if value is not None}
    if "base_rates" in chosen:
        chosen["cosine_rates"] = {}
    execute(known[name]._replace(**chosen), output, data_dir, jobs)


if __name__ == "__main__":
    main()
