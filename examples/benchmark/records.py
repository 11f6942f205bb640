"""Files of JSON lines: a header says what produced the rows that follow it.

A row does not repeat what its header names, nor that it did not fail, and numbers have
the digits that a reader uses: a file holds thousands of rows.
"""

import itertools
import json
import platform
import subprocess
import sys
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Any, TextIO

import jax
import numpy as np

Line = dict[str, Any]

HERE = Path(__file__).parent
INHERITED = ("task", "optimizer", "anchor", "method")  # by a row, from its header
CURVES = ("validation", "best", "learning_rate", "log_factors")
KEY = ("task", "optimizer", "method", "base_rate", "seed")


def number(x: Any, digits: int = 5) -> float | None:
    """Rounded to significant digits; None, for null, where it is not finite."""
    if not np.isfinite(x):
        return None
    rounded = float(f"{x:.{digits}g}")
    # 850 and not 850.0: two bytes, in a million numbers.
    return int(rounded) if rounded.is_integer() and abs(rounded) < 1e9 else rounded


def numbers(x: Any, digits: int) -> Any:
    """The same for an array: lists of as many axes."""
    array = np.asarray(x, np.float64)
    if array.ndim == 0:
        return number(array, digits)
    return [numbers(part, digits) for part in array]


@cache
def commit() -> str:
    """The commit that is checked out, and whether files differ from it."""

    def git(*command: str) -> str:
        return subprocess.run(
            ["git", *command], cwd=HERE, capture_output=True, text=True, check=False
        ).stdout.strip()

    # What is run is written into the tree, and makes no run another one.
    changed = git("status", "--porcelain", "--", ":/", ":/!*.jsonl")
    return git("rev-parse", "--short=12", "HEAD") + ("-dirty" if changed else "")


def header(config: Line, seconds: float) -> Line:
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


def key(row: Line) -> tuple:
    """What identifies a run of the comparison."""
    return tuple(row[name] for name in KEY)


def as_json(line: Line) -> str:
    """Without spaces."""
    return json.dumps(line, separators=(",", ":"))


def inherited(header_line: Line) -> Line:
    """What the rows after a header need not say."""
    config = header_line["header"].get("config", {})
    names = {name: config[name] for name in INHERITED if name in config}
    if "commit" in header_line["header"]:
        names["commit"] = header_line["header"]["commit"]
    return names | {"failed": None}


def packed(curve: list) -> list:
    """A value that repeats more than twice as a pair of it and its count."""
    found: list = []
    for value, same in itertools.groupby(curve):
        count = len(list(same))
        found += [[value, count]] if count > 2 else [value] * count
    return found


def unpacked(curve: list) -> list:
    """The curve again."""
    pairs = (x if isinstance(x, list) else (x, 1) for x in curve)
    return [value for value, count in pairs for _ in range(count)]


def write(file: TextIO, lines: Iterable[Line]) -> None:
    """Appends lines; rows follow their header, or name everything themselves."""
    names: Line = {}
    for line in lines:
        if "header" in line:
            names = inherited(line)
        else:
            line = {k: v for k, v in line.items() if k not in names or v != names[k]}
            line |= {name: packed(line[name]) for name in CURVES if name in line}
        file.write(as_json(line) + "\n")
    file.flush()


def read(path: Path) -> list[Line]:
    """The lines of a file, rows whole, without one that was cut off."""
    lines: list[Line] = []
    names: Line = {}
    for text in path.read_text().splitlines() if path.exists() else ():
        try:
            line = json.loads(text)
        except json.JSONDecodeError:
            continue
        if "header" in line:
            names = inherited(line)
        else:
            line = names | line
            line |= {name: unpacked(line[name]) for name in CURVES if name in line}
        lines.append(line)
    return lines


def rows(path: Path) -> list[Line]:
    """The same without headers."""
    return [line for line in read(path) if "header" not in line]


def open_to_append(path: Path) -> TextIO:
    """A file of lines, in which a line that was cut off is ended."""
    path.parent.mkdir(parents=True, exist_ok=True)
    is_cut_off = path.exists() and path.read_bytes()[-1:] not in (b"", b"\n")
    file = path.open("a")
    if is_cut_off:
        file.write("\n")
    return file


def fill(
    path: Path, names: tuple[str, ...], jobs: Iterable[tuple[tuple, Callable[[], Line]]]
) -> list[Line]:
    """Runs the jobs whose key, the values of ``names``, no line has; all lines."""
    lines = read(path)
    done = {tuple(line[name] for name in names) for line in lines}
    with open_to_append(path) as file:
        for key, make in jobs:
            if key not in done:
                line = dict(zip(names, key, strict=True)) | {"commit": commit()}
                lines.append(line | make())
                print(as_json(lines[-1]), file=file, flush=True)
    return lines


def done(path: Path) -> set[tuple]:
    """The keys of the runs of a file of the comparison."""
    return {key(row) for row in rows(path)}
