"""Tables and picture of results/robustness.jsonl.

python examples/benchmark/robustness_report.py
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent
ACCURACIES = ("digits", "noisy", "short", "cnn")
OURS = ("autotune", "autotune_anytime")
Rows = list[dict[str, Any]]


def read(path: Path) -> Rows:
    """All runs, without the headers."""
    rows = map(json.loads, path.read_text().splitlines())
    return [row for row in rows if "header" not in row]


def select(rows: Rows, **wanted: Any) -> Rows:
    """Rows whose fields are as wanted."""
    return [row for row in rows if all(row[k] == v for k, v in wanted.items())]


def final(row: dict[str, Any]) -> float:
    """The metric at the end; chance or a diverged loss counts as it is."""
    return row["metrics"][-1]


def loss_to(value: float, target: float, is_accuracy: bool) -> float:
    """How far ``value`` is behind: points of accuracy, or percent of loss."""
    if is_accuracy:
        return target - value
    behind = 100.0 * (value - target) / abs(target)
    return behind if np.isfinite(behind) else np.inf


def tuned(rows: Rows, is_accuracy: bool) -> tuple[float, Rows]:
    """Best base rate by mean over seeds, and its runs."""
    rates = sorted({row["base_rate"] for row in rows})
    best = (max if is_accuracy else min)(
        rates, key=lambda r: np.mean([final(x) for x in select(rows, base_rate=r)])
    )
    return best, select(rows, base_rate=best)


def time_to(row: dict[str, Any], target: float, is_accuracy: bool) -> float:
    """Fraction of the run until the metric is as good as ``target``; or inf."""
    metrics = np.array(row["metrics"])
    hits = np.flatnonzero(metrics >= target if is_accuracy else metrics <= target)
    return (hits[0] + 1) / len(metrics) if len(hits) else np.inf


def behind_by_rate(rows: Rows, target: float, is_accuracy: bool) -> dict[float, float]:
    """Mean over seeds of how far each base rate is behind."""
    means = {}
    for rate in sorted({row["base_rate"] for row in rows}):
        values = [final(row) for row in select(rows, base_rate=rate)]
        means[rate] = loss_to(float(np.mean(values)), target, is_accuracy)
    return means


def main_table(rows: Rows) -> str:
    """One line a task and optimizer: the tuned cosine, and both forms of autotune."""
    lines = [
        "| task | optimizer | tuned cosine (rate) | form | worst base rate | median |"
        " rate found | time to the cosine's value | missed |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    groups = dict.fromkeys((row["task"], row["optimizer"]) for row in rows)
    for task, optimizer in groups:
        is_accuracy = task in ACCURACIES
        here = select(rows, task=task, optimizer=optimizer)
        cosine = select(here, method="cosine")
        if not cosine:
            continue
        rate, best = tuned(cosine, is_accuracy)
        target = float(np.mean([final(row) for row in best]))
        by_seed = {row["seed"]: final(row) for row in best}
        spread = np.std(list(by_seed.values()), ddof=1) if len(by_seed) > 1 else 0.0
        for method in OURS:
            runs = select(here, method=method)
            if not runs:
                continue
            behind = list(behind_by_rate(runs, target, is_accuracy).values())
            found = [row["base_rate"] * row["found"]["found_scale"] for row in runs]
            times = [
                time_to(row, by_seed[row["seed"]], is_accuracy)
                for row in runs
                if row["seed"] in by_seed
            ]
            hits = [t for t in times if np.isfinite(t)]
            mean_time = f"{np.exp(np.mean(np.log(hits))):.2f}" if hits else "–"
            unit = "" if is_accuracy else "%"
            lines.append(
                f"| {task} | {optimizer} | {target:.4g} ± {spread:.2g} ({rate:.2g}) |"
                f" {'horizon' if method == 'autotune' else 'anytime'} |"
                f" {-max(behind):+.2f}{unit} | {-np.median(behind):+.2f}{unit} |"
                f" {min(found):.1e} … {max(found):.1e} | {mean_time} |"
                f" {len(times) - len(hits)} of {len(times)} |"
            )
    return "\n".join(lines)


def peer_table(rows: Rows) -> str:
    """One line a method: behind the tuned cosine at its worst and best base rate."""
    tasks = [t for t in dict.fromkeys(r["task"] for r in rows) if has_peers(rows, t)]
    head = "| method |" + "".join(f" {t}: worst | best |" for t in tasks)
    lines = [head, "| --- |" + " --- | --- |" * len(tasks)]
    methods = dict.fromkeys(r["method"] for r in rows if r["optimizer"] == "adam")
    for method in methods:
        cells = []
        for task in tasks:
            is_accuracy = task in ACCURACIES
            here = select(rows, task=task, optimizer="adam")
            _, best = tuned(select(here, method="cosine"), is_accuracy)
            target = float(np.mean([final(row) for row in best]))
            runs = select(here, method=method)
            if not runs:
                cells += ["", ""]
                continue
            behind = behind_by_rate(runs, target, is_accuracy).values()
            unit = "" if is_accuracy else "%"
            cells += [f"{-max(behind):+.2f}{unit}", f"{-min(behind):+.2f}{unit}"]
        lines.append(f"| {method} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def has_peers(rows: Rows, task: str) -> bool:
    """Whether any method but the cosine and ours was run."""
    methods = {row["method"] for row in select(rows, task=task, optimizer="adam")}
    return bool(methods - {"cosine", *OURS})


def plot(rows: Rows, path: Path) -> None:
    """Metric against base rate, one line a method, one panel a task."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    rows = select(rows, optimizer="adam")
    tasks = [t for t in dict.fromkeys(r["task"] for r in rows) if has_peers(rows, t)]
    figure, axes = plt.subplots(
        1, len(tasks), figsize=(4.6 * len(tasks), 3.6), squeeze=False
    )
    for axis, task in zip(axes[0], tasks, strict=True):
        here = select(rows, task=task)
        for method in dict.fromkeys(row["method"] for row in here):
            runs = select(here, method=method)
            rates = sorted({row["base_rate"] for row in runs})
            means = [
                np.mean([final(row) for row in select(runs, base_rate=rate)])
                for rate in rates
            ]
            style = (
                {"linewidth": 2.5, "zorder": 3} if method in OURS else {"alpha": 0.7}
            )
            axis.plot(rates, means, marker=".", label=method, **style)
        if task not in ACCURACIES:
            best = min(final(row) for row in here)
            axis.set_ylim(0.95 * best, 2.5 * best)
        axis.set(xscale="log", xlabel="base learning rate", title=task)
    axes[0][0].set_ylabel("final metric")
    axes[0][-1].legend(fontsize=7, loc="center left", bbox_to_anchor=(1.0, 0.5))
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def main() -> None:
    """Prints the tables and writes the picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--results", type=Path, default=HERE / "results" / "robustness.jsonl"
    )
    parser.add_argument("--picture", type=Path, default=None)
    args = parser.parse_args()
    rows = read(args.results)
    print(main_table(rows), peer_table(rows), sep="\n\n")
    if args.picture is not None:
        plot(rows, args.picture)


if __name__ == "__main__":
    main()
