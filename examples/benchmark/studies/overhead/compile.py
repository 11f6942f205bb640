"""What a method adds to compiling a step, by the number of leaves of the parameters.

cd examples && python -m benchmark.studies.overhead.compile --output compile.jsonl

Each in its own turn, the least of a few repetitions, less that of Adam alone; and the
seconds of a first update without ``jax.jit``.
"""

import argparse
import os
import platform
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from benchmark import records
from benchmark.studies.overhead import timing
from benchmark.studies.overhead.run import methods
from benchmark.tables import Table, to_markdown

RESULTS = Path(__file__).with_name("compile.jsonl")
LEAVES = (25, 100, 400)
METHODS = ("with_averaging", "with_rollback", "autotune", "learned")
SIZE = 8  # of a leaf, a square matrix; XLA compiles equal kernels but once
OF_RESNET = 62  # leaves of ResNet-18
# In the place of a number of leaves.
EAGER = f"{OF_RESNET}, first update without jit"


def measure(
    leaves: tuple[int, ...] = LEAVES, repetitions: int = 2
) -> list[records.Line]:
    """A line for each method and number of leaves, and one of the eager update."""
    made = {name: methods()[name] for name in ("adam", *METHODS)}
    lines = []
    for count in leaves:
        params = [jax.ShapeDtypeStruct((SIZE, SIZE), jnp.float32)] * count
        seconds = {
            name: timing.time_compile(tx, params, repetitions)
            for name, tx in made.items()
        }
        for name in METHODS:
            added = records.number(seconds[name] - seconds["adam"], 4)
            lines.append({"leaves": count, "method": name, "seconds": added})
    for name in METHODS:
        lines.append({"leaves": EAGER, "method": name, "seconds": eager(made[name])})
    return lines


def eager(tx: Any) -> float | None:
    """Seconds of the first update, outside jit."""
    params = [jnp.zeros((SIZE, SIZE))] * OF_RESNET
    state = tx.init(params)
    start = time.perf_counter()
    jax.block_until_ready(tx.update(params, state, params, value=jnp.float32(1.0)))
    return records.number(time.perf_counter() - start, 4)


def table(path: Path = RESULTS) -> Table:
    """A row for each number of leaves."""
    lines = records.read(path)
    config = lines[0]["header"]["config"]
    lines = [line for line in lines if "header" not in line]
    seconds = {(line["leaves"], line["method"]): line["seconds"] for line in lines}
    columns = dict.fromkeys(line["method"] for line in lines)
    rows = [
        [str(leaves), *(f"{seconds[leaves, method]:.2f} s" for method in columns)]
        for leaves in dict.fromkeys(line["leaves"] for line in lines)
    ]
    return Table(
        "Compilation",
        "Seconds that a method adds to tracing and compiling a step with Adam, by the "
        f"number of arrays of the parameters, on {config['cores']} CPU cores. Last, "
        "what the first update takes without `jax.jit` around it.",
        ["arrays", *(f"`{method}`" for method in columns)],
        rows,
    )


def main() -> None:
    """Measures, writes, and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=RESULTS)
    flags = parser.parse_args()
    config = {"cores": os.cpu_count(), "machine": platform.machine()}
    lines = [records.header(config, seconds=0.0), *measure()]
    flags.output.write_text("".join(records.as_json(line) + "\n" for line in lines))
    print(to_markdown(table(flags.output)))


if __name__ == "__main__":
    main()
