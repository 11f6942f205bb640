"""Runs a plan into JSON lines; what is there already is not run again.

    cd examples && python -m benchmark.run --plan quick --jobs 2

A group is one task, optimizer and method: one compiled training, taken over all base
rates and seeds that are missing. Its lines begin with a header that says what produced
them. A run that ends with values that are not finite, or a group that raises an
exception, is a result too.
"""

import argparse
import json
import multiprocessing
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent import futures
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, TextIO

# Processes run side by side, so that each keeps to one core.
os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false")

import jax
import jax.numpy as jnp
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from benchmark import plans, tasks, training
from common import methods, prepared

HERE = Path(__file__).parent
make_task = cache(lambda name, data_dir: tasks.TASKS[name](data_dir))


class Group(NamedTuple):
    """One compiled training, and the runs to make with it."""

    task: str
    optimizer: str
    method: str
    runs: tuple[tuple[float, int], ...]  # base rate, seed
    data_dir: Path


def run_group(group: Group) -> list[dict[str, Any]]:
    """The header and rows of a group."""
    start = time.perf_counter()
    # On a CPU one after another is as fast or faster (README.md).
    is_vmapped = jax.default_backend() != "cpu"
    task = make_task(group.task, group.data_dir)
    try:
        train = training.make_training(task, group.optimizer, group.method)
        rows = take(train, group.runs, is_vmapped)
    except Exception as error:
        failed = f"{type(error).__name__}: {error}"[:200]
        rows = [{"failed": failed} for _ in group.runs]
    config = group._asdict() | {"checkpoints": training.CHECKPOINTS}
    facts = ("steps", "steps_per_epoch", "is_accuracy", "unit")
    config |= {name: getattr(task, name) for name in facts} | {"vmapped": is_vmapped}
    del config["data_dir"]
    names = {"task": group.task, "optimizer": group.optimizer, "method": group.method}
    for row, (rate, seed) in zip(rows, group.runs, strict=True):
        row |= names | {"base_rate": rate, "seed": seed}
    seconds = round(time.perf_counter() - start, 1)
    return [header(config, seconds), *rows]


def take(
    train: Any, runs: Iterable[tuple[float, int]], is_vmapped: bool
) -> list[dict[str, Any]]:
    """Takes a training over base rates and seeds."""
    rates, seeds = zip(*runs, strict=True)
    rates, seeds = jnp.array(rates, jnp.float32), jnp.array(seeds, jnp.int32)
    if is_vmapped:
        traces = jax.device_get(jax.jit(jax.vmap(train))(rates, seeds))
        each = [jax.tree.map(lambda x, i=i: x[i], traces) for i in range(len(seeds))]
    else:
        jitted = jax.jit(train)
        pairs = zip(rates, seeds, strict=True)
        each = [jax.device_get(jitted(*pair)) for pair in pairs]
    return [training.as_row(trace) for trace in each]


@cache
def commit() -> str:
    """The commit that is checked out, and whether files differ from it."""

    def git(*command: str) -> str:
        return subprocess.run(
            ["git", *command], cwd=HERE, capture_output=True, text=True, check=False
        ).stdout.strip()

    # What is run is written into the tree, and makes no run another one.
    changed = git("status", "--porcelain", "--", ":/", ":!results")
    return git("rev-parse", "--short=12", "HEAD") + ("-dirty" if changed else "")


def header(config: dict[str, Any], seconds: float) -> dict[str, Any]:
    """What produced the lines that follow."""
    versions = {
        name: sys.modules[name].__version__
        for name in ("jax", "optax", "numpy", "optax_adaptive")
    }
    device = str(jax.devices()[0].device_kind)
    return {
        "header": {
            "python": platform.python_version(),
            **versions,
            "device": device,
            "commit": commit(),
            "config": config,
            "seconds": seconds,
        }
    }


def key(row: dict[str, Any]) -> tuple:
    """What identifies a run."""
    names = ("task", "optimizer", "method", "base_rate", "seed")
    return tuple(row[name] for name in names)


def as_json(line: dict[str, Any]) -> str:
    """Without spaces: a results file has millions of numbers."""
    return json.dumps(line, separators=(",", ":"))


def read(path: Path) -> list[dict[str, Any]]:
    """The lines of a file, without one that was cut off."""
    lines = []
    for line in path.read_text().splitlines() if path.exists() else ():
        try:
            lines.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return lines


def open_to_append(path: Path) -> TextIO:
    """A file of lines, in which a line that was cut off is ended."""
    path.parent.mkdir(parents=True, exist_ok=True)
    is_cut_off = path.exists() and path.read_bytes()[-1:] not in (b"", b"\n")
    file = path.open("a")
    if is_cut_off:
        file.write("\n")
    return file


def fill(
    path: Path, names: tuple[str, ...], jobs: Iterable[tuple[tuple, Callable[[], dict]]]
) -> list[dict[str, Any]]:
    """Runs the jobs whose key, the values of ``names``, no line has; all lines."""
    lines = read(path)
    done = {tuple(line[name] for name in names) for line in lines}
    with open_to_append(path) as file:
        for key, make in jobs:
            if key not in done:
                line = dict(zip(names, key, strict=True)) | {"commit": commit()}
                lines.append(line | make())
                print(json.dumps(lines[-1]), file=file, flush=True)
    return lines


def done(path: Path) -> set[tuple]:
    """The keys of the runs of a file."""
    return {key(line) for line in read(path) if "header" not in line}


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
                    groups.append(Group(task, optimizer, method, runs, data_dir))
    return groups


def results(groups: list[Group], jobs: int) -> Iterator[list[dict[str, Any]]]:
    """The lines of each group as it ends."""
    if jobs == 1:
        yield from map(run_group, groups)
        return
    context = multiprocessing.get_context("spawn")  # JAX does not survive a fork
    with futures.ProcessPoolExecutor(jobs, context) as pool:
        try:
            running = [pool.submit(run_group, group) for group in groups]
            for future in futures.as_completed(running):
                yield future.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def execute(plan: plans.Plan, output: Path, data_dir: Path, jobs: int) -> None:
    """Runs what ``output`` lacks of ``plan``, and appends it."""
    for method in plan.methods:  # complain at once, where a group would only fail
        for optimizer in plan.optimizers:
            methods.build(method, optimizer, 1e-3, 400, 8)
    for name in plan.tasks:
        make_task(name, data_dir)
    groups = missing(plan, done(output), data_dir)
    if not groups:
        print(f"nothing to run: {output} has all of it")
        return
    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.description}"),
    )
    with (
        open_to_append(output) as file,
        Progress(*columns, speed_estimate_period=3600) as progress,
    ):
        bar, start = progress.add_task("", total=len(groups)), time.perf_counter()
        for i, lines in enumerate(results(groups, jobs), 1):
            file.writelines(as_json(line) + "\n" for line in lines)
            file.flush()
            last = lines[-1]
            name = f"{last['method']} on {last['task']} ({last['optimizer']})"
            progress.update(bar, advance=1, description=name)
            if not progress.console.is_terminal:  # which would show no bar
                left = (time.perf_counter() - start) * (len(groups) / i - 1) / 60
                print(f"{i} of {len(groups)}, {left:.0f} min left: {name}", flush=True)


def main(plan: str = "standard") -> None:
    """Reads the command line and runs the plan that it names."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--plan", choices=plans.PLANS, default=plan)
    other = "fewer of the plan's, or other"
    parser.add_argument("--tasks", nargs="+", choices=tasks.TASKS, help=other)
    for name in ("optimizers", "methods"):
        parser.add_argument(f"--{name}", nargs="+", metavar="NAME", help=other)
    parser.add_argument("--base-rates", nargs="+", type=float)
    parser.add_argument("--seeds", type=int)
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes")
    parser.add_argument("--data-dir", type=Path, default=prepared.default_dir())
    parser.add_argument("--output", type=Path, help="default: results/PLAN.jsonl")
    args = vars(parser.parse_args())
    name, jobs, data_dir = args.pop("plan"), args.pop("jobs"), args.pop("data_dir")
    output = args.pop("output") or HERE / "results" / f"{name}.jsonl"
    chosen = {field: value for field, value in args.items() if value is not None}
    if "base_rates" in chosen:
        chosen["cosine_rates"] = {}
    execute(plans.PLANS[name]._replace(**chosen), output, data_dir, jobs)


if __name__ == "__main__":
    main()
