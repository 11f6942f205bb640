"""Tables and the picture of docs/rl.md, from results/rl.jsonl.

    cd examples && python -m benchmark.rl_report [--picture ../docs/rl.png]

The picture's policies are learned anew, in three short runs.
"""

import argparse
import json
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

from benchmark import rl as experiment
from benchmark.tasks import TASKS
from optax_adaptive import _meter, _pack, _scale
from optax_adaptive.rl import posterior

bandit = sys.modules["optax_adaptive.controllers.bandit"]

ACCURACY = ("digits", "noisy")  # percent, larger is better; the others are losses


def read(path: Path) -> dict[tuple[str, str, float, str], dict]:
    """Metrics and log factors by task, anchor, offset and method, in order of seed."""
    groups = defaultdict(list)
    for line in path.read_text().splitlines():
        row = json.loads(line)
        if "header" not in row:
            key = (row["task"], row["anchor"], row["offset"], row["method"])
            groups[key].append(row)
    table = {}
    for key, rows in groups.items():
        rows.sort(key=lambda row: row["seed"])
        table[key] = {
            "metric": np.array([row["metric"] for row in rows]),
            "log_factors": np.array([row["log_factors"] for row in rows]),
        }
    return table


def gain(task: str, metric: np.ndarray, anchor: np.ndarray) -> np.ndarray:
    """By seed: points of accuracy, or percent of the loss; positive is better."""
    if task in ACCURACY:
        return metric - anchor
    return 100 * (anchor - metric) / anchor


def recovered(table: dict, task: str, offset: float, method: str) -> float:
    """The part of what the bad peak costs that a method wins back, of means."""
    good = table[task, "cosine", 1.0, "hold"]["metric"].mean()
    bad = table[task, "cosine", offset, "hold"]["metric"].mean()
    mean = table[task, "cosine", offset, method]["metric"].mean()
    return (mean - bad) / (good - bad)


def interval(values: np.ndarray) -> str:
    """Mean and 95% t-interval of paired differences."""
    quantile = stats.t.ppf(0.975, len(values) - 1)
    half = quantile * values.std(ddof=1) / np.sqrt(len(values))
    return f"{values.mean():+.2f} ± {half:.2f}"


def learners(table: dict) -> list[str]:
    """The rules that were run, without the one that never moves."""
    run = {method for _, _, _, method in table}
    return [method for method in experiment.RULES if method in run - {"hold"}]


def main_table(table: dict) -> str:
    """Around a tuned cosine and around autotune: gain over the same without a rule."""
    methods = learners(table)
    lines = [
        "| anchor | alone | " + " | ".join(methods) + " |",
        "| --- " * (2 + len(methods)) + "|",
    ]
    for anchor in ("cosine", "autotune"):
        for task in experiment.PEAKS:
            if (task, anchor, 1.0, "hold") not in table:
                continue
            alone = table[task, anchor, 1.0, "hold"]["metric"]
            unit = "%" if task in ACCURACY else "MW" if task == "demand" else "nats"
            cells = []
            for method in methods:
                runs = table.get((task, anchor, 1.0, method))
                cells.append(
                    "–" if runs is None else interval(gain(task, runs["metric"], alone))
                )
            mean = f"{alone.mean():.4g} {unit}"
            lines.append(f"| {task}, {anchor} | {mean} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def recovery_table(table: dict) -> str:
    """Around a cosine whose peak is ten times too small or too large."""
    methods = learners(table)
    lines = [
        "| task, peak | alone (tuned) | " + " | ".join(methods) + " |",
        "| --- " * (2 + len(methods)) + "|",
    ]
    for task in experiment.PEAKS:
        for offset in (0.1, 10.0):
            if (task, "cosine", offset, "hold") not in table:
                continue
            alone = table[task, "cosine", offset, "hold"]["metric"].mean()
            tuned = table[task, "cosine", 1.0, "hold"]["metric"].mean()
            cells = [
                f"{recovered(table, task, offset, method):.2f}"
                if (task, "cosine", offset, method) in table
                else "–"
                for method in methods
            ]
            lines.append(
                f"| {task}, x{offset:g} | {alone:.4g} ({tuned:.4g}) | "
                + " | ".join(cells)
                + " |"
            )
    return "\n".join(lines)


def ablation_table(table: dict, task: str) -> str:
    """One row a variant: gain at the tuned peak, and what is recovered off it."""
    lines = [
        f"| {task}: variant | gain, tuned peak | recovered, x0.1 | recovered, x10 |",
        "| --- | --- | --- | --- |",
    ]
    for method in ("bandit", *experiment.ABLATIONS, "replay"):
        if (task, "cosine", 1.0, method) not in table:
            continue
        alone = table[task, "cosine", 1.0, "hold"]["metric"]
        metric = table[task, "cosine", 1.0, method]["metric"]
        cells = [interval(gain(task, metric, alone))]
        cells += [f"{recovered(table, task, o, method):.2f}" for o in (0.1, 10.0)]
        lines.append(f"| {method} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def learned(method: str, offset: float, seeds: int = 5) -> list[Any]:
    """What a rule's learner has in mind after a run on digits, a seed each."""
    make_rule = experiment.RULES[method]
    layout = _scale.Memory(
        meter=_meter.LAYOUT,
        history=jnp.zeros((32,)),
        errors=jnp.zeros((32,)),
        controller_state=jax.eval_shape(make_rule(0).init),
    )
    run = experiment.make_run(TASKS["digits"](Path()), make_rule, "cosine")
    peak = jnp.float32(offset * 10 ** experiment.PEAKS["digits"])
    _, _, state = run(peak, jnp.zeros(seeds), jnp.arange(seeds))
    memories = [_pack.unpack(layout, words) for words in state.controller_memory]
    return [memory.controller_state.learner_state for memory in memories]


def draw(table: dict, path: Path) -> None:
    """Above, the factor over a run; below, what the bandit believes of each action."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 5.5), layout="constrained")
    above, below = figure.subplots(2, 3, sharey="row")
    actions = np.linspace(-1, 1, 41)
    progress = (np.arange(experiment.TRACE) + 0.5) / experiment.TRACE
    run_offsets = (0.1, 1.0, 10.0)
    for axes, offset in zip(above, run_offsets, strict=True):
        for method in ("bandit", "q_learning", "actor_critic"):
            runs = table["digits", "cosine", offset, method]["log_factors"]
            (line,) = axes.plot(progress, np.exp(runs.mean(0)), label=method)
            if method == "bandit":
                axes.plot(progress, np.exp(runs.T), color=line.get_color(), lw=0.4)
        axes.axhline(1, color="black", lw=0.8)
        axes.set(yscale="log", title=f"peak x{offset:g}", xlabel="part of the run")
    above[0].set_ylabel("factor on the rate")
    above[0].legend()
    for axes, offset in zip(below, run_offsets, strict=True):
        for mind in learned("bandit", offset):
            belief = posterior(
                mind.statistics, bandit._PRIOR_MEAN, bandit._PRIOR_PRECISION
            )
            weights = np.asarray(belief.mean)
            axes.plot(actions, weights[0] * actions + weights[1] * actions**2, "C0")
        axes.axhline(0, color="black", lw=0.8)
        axes.set(xlabel="action")
    below[0].set_ylabel("advantage over the no-op")
    figure.savefig(path, dpi=110)


def main() -> None:
    """Prints the tables, and draws if asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, default=experiment.RESULTS)
    parser.add_argument("--picture", type=Path)
    args = parser.parse_args()
    table = read(args.results)
    print(main_table(table), recovery_table(table), sep="\n\n")
    for task in experiment.PEAKS:
        if (task, "cosine", 1.0, "random actions") in table:
            print(f"\n{ablation_table(table, task)}")
    if args.picture:
        draw(table, args.picture)


if __name__ == "__main__":
    main()
