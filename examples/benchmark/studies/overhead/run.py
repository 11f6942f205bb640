"""What a controller costs: step time, compile time and bytes, as paired ratios.

Adam alone, with ``optax.contrib.reduce_on_plateau``, with every rule, and in autotune
and its parts (after the search, and 10,000 steps into a run): the optimizer's step
alone on trees of 16 parameters, of ResNet-18's 11 million, and of as many as fill half
the memory, where copies would not fit beside them; and the whole training step of a
perceptron. All methods take turns within every repetition, each time in another order,
and each is compared with Adam in the same repetition, so that a slow moment of the
machine hits both::

    cd examples && python -m benchmark.studies.overhead.run --output overhead.jsonl
"""

import argparse
import os
import platform
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
from rich.console import Console
from rich.table import Table

import optax_adaptive
from benchmark import records
from benchmark.studies.overhead import timing
from benchmark.studies.overhead.workloads import Workload, workloads
from optax_adaptive import controllers

ACCUMULATION_SIZE = 20  # of reduce_on_plateau, as most rules have it


def methods() -> dict[str, optax.GradientTransformationExtraArgs]:
    """Adam alone, with everything that may follow it, and in every wrapper."""
    adam = optax.with_extra_args_support(optax.adam(1e-3))
    plateau = optax.contrib.reduce_on_plateau(accumulation_size=ACCUMULATION_SIZE)
    made = {"adam": adam, "reduce_on_plateau": optax.chain(adam, plateau)}
    for name, make_rule in controllers.REGISTRY.items():
        rule = make_rule()
        tx = optax.chain(adam, optax_adaptive.scale_by_controller(rule))
        if rule.needs:
            tx = optax_adaptive.with_averaging(optax_adaptive.with_rollback(tx))
        made[name] = tx
    made["with_averaging"] = optax_adaptive.with_averaging(adam)
    made["with_rollback"] = optax_adaptive.with_rollback(adam)
    made["autotune"] = optax_adaptive.autotune(adam)
    made["autotune, interpolated"] = optax_adaptive.autotune(
        optax.adam(1e-3, b1=0.0), interpolate=True
    )
    return made


def measure(
    workload: Workload, made: dict[str, Any], repetitions: int, name: str
) -> list[records.Line]:
    """A line a method: medians, and of paired ratios also the quartiles."""
    seconds = timing.time_steps(workload, made, repetitions, name)
    abstract = jax.eval_shape(workload.params)
    compiled = {m: timing.time_compile(made[m], abstract, 3) for m in seconds}
    sizes = {m: timing.state_bytes(made[m], abstract) for m in seconds}
    lines = []
    for method, times in seconds.items():
        low, ratio, high = np.percentile(times / seconds["adam"], [25, 50, 75])
        measured = {
            "step_seconds": np.median(times),
            "step_ratio": ratio,
            "step_ratio_quartiles": [low, high],
            "step_seconds_added": np.median(times - seconds["adam"]),
            "compile_seconds_added": compiled[method] - compiled["adam"],
        }
        added = sizes[method] - sizes["adam"]
        line = {"tree": name, "method": method, "state_bytes_added": added}
        lines.append(line | {k: records.numbers(v, 7) for k, v in measured.items()})
    return lines


def show(name: str, pairs: int, lines: list[records.Line]) -> None:
    """Prints the table of a tree."""
    table = Table(title=f"{name}: median over {pairs} pairs")
    headings = ("method", "step", "over Adam", "middle half", "adds")
    for heading in (*headings, "compile adds", "state adds"):
        table.add_column(heading, justify="left" if heading == "method" else "right")
    for line in lines:
        low, high = line["step_ratio_quartiles"]
        table.add_row(
            line["method"],
            f"{1e6 * line['step_seconds']:.1f} us",
            f"{line['step_ratio']:.3f}",
            f"{low:.3f} to {high:.3f}",
            f"{1e6 * line['step_seconds_added']:.1f} us",
            f"{1e3 * line['compile_seconds_added']:.0f} ms",
            f"{line['state_bytes_added']} B",
        )
    Console(width=110).print(table)


def main() -> None:
    """Measures, prints a table for each tree, and writes the numbers."""
    parser = argparse.ArgumentParser(description="What a controller costs a step.")
    parser.add_argument("--output", type=Path, help="JSON lines with every number")
    parser.add_argument("--quick", action="store_true", help="the small tree only")
    parser.add_argument("--methods", nargs="+", help="beside Adam; default: all")
    parser.add_argument("--trees", nargs="+", help="whose names begin so")
    parser.add_argument("--pairs", type=int, help="of each; more for finer ratios")
    flags = parser.parse_args()
    made = methods()
    unknown = set(flags.methods or ()) - set(made)
    if unknown:
        parser.error(f"no method {', '.join(unknown)}, but {', '.join(made)}")
    if flags.methods:
        made = {name: made[name] for name in ("adam", *flags.methods)}
    if flags.pairs is not None and flags.pairs < 1:
        parser.error(f"--pairs must be at least 1, but is {flags.pairs}")
    chosen = workloads()
    if flags.trees:
        names, starts = ", ".join(chosen), tuple(flags.trees)
        chosen = {name: w for name, w in chosen.items() if name.startswith(starts)}
        if not chosen:
            parser.error(f"no tree begins with {' or '.join(starts)}, but {names}")
    config = {"cores": os.cpu_count(), "machine": platform.machine()}
    lines = [records.header(config, seconds=0.0)]
    for name, workload in chosen.items():
        pairs = flags.pairs or (3 if flags.quick else workload.repetitions)
        found = measure(workload, made, pairs, name)
        show(name, pairs, found)
        lines += found
        if flags.output:
            text = "".join(records.as_json(line) + "\n" for line in lines)
            flags.output.write_text(text)
        if flags.quick:
            break


if __name__ == "__main__":
    main()
