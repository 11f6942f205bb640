"""What the learned policy is worth: its runs, to JSONL.

    cd examples && python -m benchmark.studies.learned.run --jobs 2   # resumes

The policy was trained on none of these tasks; a few share their length (800 steps) or
the source of their data (docstrings) with a kind that it was trained on. The cosines
that it is compared with are those of the plans "robustness" and "optimizers", on the
same tasks and seeds. ``report.py`` makes the tables.
"""

import argparse
from pathlib import Path
from typing import Any

from benchmark import records, run
from benchmark.plans import (
    BASE_RATES,
    COSINE_RATES,
    DECADES,
    STANDARD_TASKS,
    Plan,
    as_written,
)
from data import prepared
from methods import rules
from methods.learned_ablations import LEARNED_ABLATIONS

RESULTS = Path(__file__).with_name("results.jsonl")
NEAR = tuple(COSINE_RATES["adam"][k] for k in (1, 4, 7))  # a decade apart
ABLATION_RATES = tuple(10.0**k for k in (-7, -2.5, -1))
FAR = DECADES[::4]
WITH_OTHERS = ("digits", "demand")  # with which the plan "optimizers" has cosines
OTHERS = tuple(optimizer for optimizer in COSINE_RATES if optimizer != "adam")
FEW = ("digits", "transformer", "demand")
REPLAY = "learned_replay"  # of rates that runs of `learned` have to draw first
ABLATIONS = tuple(name for name in LEARNED_ABLATIONS if name != REPLAY)

RATES_DRAWN = ("learning_rate", "mean_rate")  # for the picture, and for replays
AROUND = ("cosine+learned", "cosine+learned_interpolated")

# Fixed before any result, but for the interpolated forms, for fifteen seeds in place of
# five, which could not resolve half a point, and for the other optimizers, which came
# when the policy was ahead of autotune around Adam.
PLANS = tuple(
    Plan(tasks, ("adam",), names, rates, seeds=15, keeps=keeps)
    for tasks, names, rates, keeps in (
        (STANDARD_TASKS, tuple(rules.LEARNED), BASE_RATES, RATES_DRAWN),
        (STANDARD_TASKS, AROUND, NEAR, ()),
        (FEW, ABLATIONS, ABLATION_RATES, ()),
    )
) + (Plan(WITH_OTHERS, OTHERS, tuple(rules.LEARNED), FAR, seeds=5),)

Rows = dict[tuple[str, str, float, int], dict[str, Any]]  # task, method, rate, seed


def read(path: Path) -> Rows:
    """The runs with Adam, by what identifies them."""
    return {
        (row["task"], row["method"], row["base_rate"], row["seed"]): row
        for row in records.rows(path)
        if row["optimizer"] == "adam"
    }


def replay(rows: Rows, task: str, data_dir: Path) -> list[dict[str, Any]]:
    """Runs what is missing of constant rates: each the mean one of a run."""
    rates = set(map(as_written, ABLATION_RATES))
    found = {
        (rate, seed): row["mean_rate"]
        for (t, method, rate, seed), row in rows.items()
        if (t, method) == (task, "learned") and rate in rates
    }
    found = {k: v for k, v in found.items() if (task, REPLAY, *k) not in rows}
    if not found:
        return []
    runs = tuple((mean_rate, seed) for (_, seed), mean_rate in found.items())
    header, *lines = run.run_group(run.Group(task, "adam", REPLAY, runs, data_dir))
    for line, (rate, _) in zip(lines, found, strict=True):
        line["base_rate"] = rate  # of the run whose mean rate it had
    return [header, *lines]


def main() -> None:
    """Runs what is missing."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--data-dir", type=Path, default=prepared.default_dir())
    parser.add_argument("--output", type=Path, default=RESULTS)
    args = parser.parse_args()
    for plan in PLANS:
        run.execute(plan, args.output, args.data_dir, args.jobs)
    for task in FEW:
        lines = replay(read(args.output), task, args.data_dir)
        with records.open_to_append(args.output) as file:
            records.write(file, lines)


if __name__ == "__main__":
    main()
