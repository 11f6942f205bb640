"""Does a change move what the methods end with? The same runs before and after.

On this commit, and in a worktree of the one before, then compare the two::

    cd examples && python -m benchmark.studies.gate.run run after.jsonl
    python -m benchmark.studies.gate.run compare before.jsonl after.jsonl

Base rate 1e-3, paired by seed. A cell is worse where its mean difference is below zero
by more than two standard errors.
"""

import argparse
import math
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmark import records, run, tasks
from data import prepared
from methods import rules

TASKS = ("digits", "noisy", "lstm", "demand")
METHODS = (*rules.AUTOTUNE, *rules.LEARNED)
BASE_RATE = 1e-3
METRIC = "test"


def measure(output: Path, names: list[str], seeds: list[int]) -> None:
    """Runs what ``output`` lacks, a line a run."""
    rows = read(output) if output.exists() else {}
    with records.open_to_append(output) as file:
        for name in names:
            for task in TASKS:
                missing = [s for s in seeds if (task, name, s) not in rows]
                if not missing:
                    continue
                runs = tuple((BASE_RATE, seed) for seed in missing)
                group = run.Group(task, "adam", name, runs, prepared.default_dir())
                records.write(file, run.run_group(group))


def read(path: Path) -> dict[tuple[str, str, int], dict[str, Any]]:
    """Rows by task, method and seed."""
    rows = records.rows(path)
    return {(row["task"], row["method"], row["seed"]): row for row in rows}


def difference(task: str, before: dict[str, Any], after: dict[str, Any]) -> float:
    """How much better it became: points of accuracy, or percent of a loss."""
    has_failed = bool(before.get("failed")), bool(after.get("failed"))
    if any(has_failed):
        return 100.0 * has_failed[0] - 100.0 * has_failed[1]
    old, new = before[METRIC], after[METRIC]
    if task in tasks.ACCURACY:
        return new - old  # in percent
    return 100 * math.log(old / new)


def compare(before: Path, after: Path) -> bool:
    """Prints the table of cells; whether none is worse."""
    old, new = read(before), read(after)
    table = Table(title="after - before: points, or % of the loss (mean ± error)")
    for heading in ("method", *TASKS):
        table.add_column(heading, justify="left" if heading == "method" else "right")
    worse, compared = [], 0
    for name in dict.fromkeys(name for _, name, _ in new):
        cells = []
        for task in TASKS:
            seeds = sorted(
                s for t, m, s in new if (t, m) == (task, name) and (t, m, s) in old
            )
            if len(seeds) < 2:
                cells.append("")
                continue
            compared += 1
            pairs = [(old[task, name, s], new[task, name, s]) for s in seeds]
            values = np.array([difference(task, *pair) for pair in pairs])
            mean, error = values.mean(), values.std(ddof=1) / math.sqrt(len(values))
            is_worse = mean < -2 * error
            worse += [(name, task)] if is_worse else []
            cells.append(f"{mean:+.2f} ± {error:.2f}" + (" worse" if is_worse else ""))
        table.add_row(name, *cells)
    Console(width=110).print(table)
    if not compared:
        raise SystemExit(f"{before} and {after} have no two seeds of a cell in common")
    return not worse


def main() -> None:
    """Runs, or compares."""
    parser = argparse.ArgumentParser(description="Runs before and after a change.")
    commands = parser.add_subparsers(dest="command", required=True)
    running = commands.add_parser("run", help="what is missing in OUTPUT")
    running.add_argument("output", type=Path)
    running.add_argument("--methods", nargs="+", default=METHODS, choices=METHODS)
    running.add_argument("--seeds", nargs="+", type=int, default=list(range(5)))
    comparing = commands.add_parser("compare", help="exits with 1 if a cell is worse")
    comparing.add_argument("before", type=Path)
    comparing.add_argument("after", type=Path)
    flags = parser.parse_args()
    if flags.command == "run":
        measure(flags.output, list(flags.methods), flags.seeds)
    elif not compare(flags.before, flags.after):
        parser.exit(1)


if __name__ == "__main__":
    main()
