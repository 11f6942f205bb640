"""The tables of README.md and docs/comparison.md: what a step costs."""

from collections.abc import Sequence
from pathlib import Path

from benchmark import records
from benchmark.tables import Table

RESULTS = Path(__file__).with_name("results.jsonl")
# README's rows: one rule, since all cost about as much, and what is as large as params.
SHORT = (
    "trend",
    "with_averaging",
    "with_rollback",
    "autotune",
    "autotune, interpolated",
)


def overhead(methods: Sequence[str] = (), path: Path = RESULTS) -> Table:
    """From the lines of run.py: each method, or those named, beside Adam alone."""
    lines = records.read(path)
    header = lines[0]["header"]
    lines = [line for line in lines if "header" not in line]
    device = f"{header['device']} ({header['config']['cores']} cores)"
    small, *larger = dict.fromkeys(line["tree"] for line in lines)
    measured = dict.fromkeys(line["method"] for line in lines)
    rows = []
    for method in methods or (name for name in measured if name != "adam"):
        mine = {x["tree"]: x for x in lines if x["method"] == method}
        compilation = mine[larger[0]]["compile_seconds_added"]
        rows.append(
            [
                f"`{method}`",
                f"{1e6 * mine[small]['step_seconds_added']:.1f} µs",
                *(
                    f"{mine[tree]['step_ratio']:.3f}" if tree in mine else "–"
                    for tree in larger
                ),
                f"{1e3 * compilation:.0f} ms",
                f"{mine[small]['state_bytes_added']} B",
            ]
        )
    return Table(
        "Overhead",
        f"What a method adds to Adam alone, medians of paired ratios on {device}. "
        "Not counted in the last column: `with_averaging` holds one copy of the "
        "parameters, `with_rollback` one of them and one of the optimizer's state, "
        "`autotune` two of the parameters.",
        [
            *("beside Adam", f"added to a step, {small}"),
            *(f"step, times Adam's, {tree}" for tree in larger),
            *(f"added to compiling, {larger[0]}", "scalars in the state"),
        ],
        rows,
    )
