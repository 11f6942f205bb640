"""Runs of autotune on tasks of the benchmark, over factors on something, and seeds."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax

import optax_adaptive
from benchmark import records, tasks
from benchmark.tasks.task import Task
from data import prepared

Run = Callable[[int, jax.Array], dict[str, jax.Array]]  # of seed and factor
METHODS = {
    "autotune": lambda: optax_adaptive.autotune(optax.adam(1e-3)),
    "autotune_interpolated": lambda: optax_adaptive.autotune(
        optax.adam(1e-3, b1=0.0), interpolate=True
    ),
}


def measure(
    output: Path,
    make_run: Callable[[Task, str], Run],
    names: Iterable[str],
    factors: Iterable[float],
    seeds: list[int],
) -> None:
    """Runs what ``output`` lacks, a line a run; ``make_run`` takes task and method."""
    fields = ("task", "method", "factor", "seed")
    done = {tuple(row[name] for name in fields) for row in records.rows(output)}
    with records.open_to_append(output) as file:
        for name in names:
            task = tasks.TASKS[name](prepared.default_dir())
            for method in METHODS:
                run, lines = make_run(task, method), []
                missing = [
                    (factor, seed)
                    for factor in factors
                    for seed in seeds
                    if (name, method, factor, seed) not in done
                ]
                for factor, seed in missing:
                    found = run(seed, jnp.float32(factor))
                    row = {k: records.number(v) for k, v in found.items()}
                    lines.append({"factor": factor, "seed": seed} | row)
                if lines:
                    config = {"task": name, "method": method, "steps": task.steps}
                    records.write(file, [records.header(config, 0.0), *lines])


def mean(ends: Iterable[float | None]) -> float:
    """Of final metrics; NaN where a run did not end finite."""
    return float(np.mean([np.nan if end is None else end for end in ends]))


def cells(
    lines: list[records.Line],
) -> Iterator[tuple[str, str, dict[float, list[records.Line]]]]:
    """Task, method, and their rows by factor."""
    rows = [line for line in lines if "header" not in line]
    for task, method in dict.fromkeys((row["task"], row["method"]) for row in rows):
        by_factor: dict[float, list[records.Line]] = {}
        for row in rows:
            if (row["task"], row["method"]) == (task, method):
                by_factor.setdefault(row["factor"], []).append(row)
        yield task, method, by_factor
