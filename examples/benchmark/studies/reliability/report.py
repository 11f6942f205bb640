"""docs/reliability.md's table, from results.jsonl: fault by method."""

import collections
import math
from typing import Any, NamedTuple

import numpy as np

from benchmark import records
from benchmark.studies.reliability import faults
from benchmark.studies.reliability.run import METHODS, STEPS
from benchmark.tables import markdown

REFERENCE = "apply_if_finite"
POINTS, FACTOR = 1.0, 2.0  # of accuracy, and between rates, that are allowed


class Cell(NamedTuple):
    """Means over seeds."""

    lost: float  # points of accuracy, against the same run without the fault
    factor: float  # between the rates of the two, at least 1
    spread: float  # the same between runs without a fault, of several seeds


def cells(lines: list[records.Line]) -> dict[tuple[str, str], Cell]:
    """By method and fault."""
    rows = collections.defaultdict(list)
    for row in lines:
        if "header" not in row:
            far = abs(math.log(max(row["ratio"] or 0.0, 1e-12)))
            lost = 100.0 if row["lost"] is None else row["lost"]
            rows[row["method"], row["fault"]].append((lost, far, row["spread"] or 0.0))
    means = {key: np.mean(found, axis=0) for key, found in rows.items()}
    return {
        key: Cell(lost, math.exp(far), math.exp(spread))
        for key, (lost, far, spread) in means.items()
    }


def is_red(cell: Cell, bare: Cell) -> bool:
    """Whether more is lost than is allowed, where the bare optimizer does not."""
    return bare.lost <= POINTS and (cell.lost > POINTS or cell.factor > FACTOR)


def show(cell: Cell, bare: Cell) -> str:
    """Points lost, and the factor between the rates where that is too large."""
    text = f"{cell.lost:+.1f}"
    if cell.factor > FACTOR:
        text += f" (x{cell.factor:.2g})"
    return f"**{text}**" if is_red(cell, bare) else text


def table(lines: list[records.Line]) -> str:
    """A row a fault: what the bare optimizer and the methods lose."""
    found = cells(lines)
    others = [name for name in METHODS if name != REFERENCE]
    rows: list[list[Any]] = []
    red = counted = alike = 0
    for fault in faults.faults(STEPS):
        name = f"{fault.kind}, {fault.name}"
        bare = found[REFERENCE, name]
        mine = [found[method, name] for method in others]
        counted += len(mine) * (bare.lost <= POINTS)
        reds = [cell for cell in mine if is_red(cell, bare)]
        red += len(reds)
        alike += sum(c.lost <= POINTS and c.factor <= c.spread for c in reds)
        rows.append([name, show(bare, bare), *(show(cell, bare) for cell in mine)])
    text = markdown(["fault", REFERENCE, *others], rows)
    shown = len(rows) * len(others)
    return (
        f"{text}\nRed (bold): {red} of the {counted} cells that count, of {shown}. In "
        f"{alike} of them no more than a point is lost, and rates of runs without a "
        "fault differ by as much from seed to seed.\n"
    )
