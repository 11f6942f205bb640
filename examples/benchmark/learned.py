"""What the learned policy is worth: runs, and the tables of docs/learned*.md.

    cd examples && python -m benchmark.learned --jobs 2   # resumes

The policy was trained on none of these tasks; a few share their length (800 steps) or
the source of their data (docstrings) with a kind that it was trained on. Cosines are of
the plan "robustness", on the same tasks and seeds, so gains are over the cosine of the
same seed. Where it is tuned it is run with more seeds, and at the best of three peaks
so is the policy around it.
"""

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from benchmark import measures, run, training
from benchmark.plans import BASE_RATES, COSINE_RATES, STANDARD_TASKS, Plan
from common import methods, prepared
from common.learned_ablations import LEARNED_ABLATIONS

RESULTS = Path(__file__).with_name("results") / "learned.jsonl"
COSINES = RESULTS.with_name("robustness.jsonl")
NEAR = tuple(COSINE_RATES["adam"][k] for k in (1, 4, 7))  # a decade apart
ABLATION_RATES = BASE_RATES[::3]
FEW = ("digits", "transformer", "demand")
REPLAY = "learned_replay"  # of rates that runs of `learned` have to draw first
ABLATIONS = tuple(name for name in LEARNED_ABLATIONS if name != REPLAY)

AROUND = ("cosine+learned", "cosine+learned_interpolated")

SEEDS, MORE_SEEDS = 5, 15  # few where the policy has to win back what a peak costs

# Fixed before any result, but for the interpolated forms and for more seeds alone: five
# could not resolve half a point.
PLANS = (
    Plan(
        STANDARD_TASKS, ("adam",), tuple(methods.LEARNED), BASE_RATES, seeds=MORE_SEEDS
    ),
    Plan(STANDARD_TASKS, ("adam",), AROUND, NEAR, seeds=SEEDS),
    Plan(FEW, ("adam",), ABLATIONS, ABLATION_RATES, seeds=MORE_SEEDS),
)

Rows = dict[tuple[str, str, float, int], dict[str, Any]]  # task, method, rate, seed


def read(path: Path) -> Rows:
    """The runs, by what identifies them."""
    rows = [row for row in run.read(path) if "header" not in row]
    return {
        (row["task"], row["method"], row["base_rate"], row["seed"]): row
        for row in rows
        if row["optimizer"] == "adam"
    }


def is_accuracy(path: Path) -> dict[str, bool]:
    """By task, from the headers."""
    configs = [row["header"]["config"] for row in run.read(path) if "header" in row]
    return {config["task"]: config["is_accuracy"] for config in configs}


def replay(rows: Rows, task: str, data_dir: Path) -> list[dict[str, Any]]:
    """Runs what is missing of constant rates: each the mean one of a run, as log.

    The first quarter of the checkpoints is left out, in which the trials lie.
    """
    rates = {float(f"{rate:.3g}") for rate in ABLATION_RATES}
    drawn = {
        (rate, seed): row["learning_rate"][training.CHECKPOINTS // 4 :]
        for (t, method, rate, seed), row in rows.items()
        if (t, method) == (task, "learned") and rate in rates
    }
    drawn = {k: v for k, v in drawn.items() if (task, REPLAY, *k) not in rows}
    if not drawn:
        return []
    means = [float(np.exp(np.log(found).mean())) for found in drawn.values()]
    runs = zip(means, (seed for _, seed in drawn), strict=True)
    header, *lines = run.run_group(
        run.Group(task, "adam", REPLAY, tuple(runs), data_dir)
    )
    for line, (rate, _) in zip(lines, drawn, strict=True):
        line |= {"base_rate": rate, "replayed_rate": float(f"{line['base_rate']:.3g}")}
    return [header, *lines]


def more_seeds(
    rows: Rows, accuracy: dict[str, bool], task: str, data_dir: Path
) -> list[dict[str, Any]]:
    """Runs what is missing of more seeds: of cosines, and of the policy around one."""
    peak = best_peak(rows, task, accuracy[task])
    of_cosines = {peak, tuned(rows, task, accuracy[task])}
    lines = []
    for method in ("cosine", *AROUND):
        runs = [
            (rate, seed)
            for rate in sorted(of_cosines if method == "cosine" else {peak})
            for seed in range(SEEDS, MORE_SEEDS)
            if (task, method, rate, seed) not in rows
        ]
        if runs:
            group = run.Group(task, "adam", method, tuple(runs), data_dir)
            lines += run.run_group(group)
    return lines


def finals(rows: Rows, task: str, method: str, split: str) -> dict[float, np.ndarray]:
    """Final metrics by base rate, one a seed; one that failed is as at the start."""
    found: dict[float, list[float]] = {}
    for (t, m, rate, _), row in sorted(rows.items()):
        if (t, m) == (task, method):
            final = row[split] if split == "test" else row[split][-1]
            final = row["initial"] if row["failed"] or final is None else final
            found.setdefault(rate, []).append(final)
    return {rate: np.array(values) for rate, values in found.items()}


def gains(values: np.ndarray, reference: np.ndarray, accuracy: bool) -> np.ndarray:
    """Points of accuracy, or percent of the loss, by which ``values`` are better."""
    count = min(len(values), len(reference))
    values, reference = values[:count], reference[:count]
    return values - reference if accuracy else 100 * (1 - values / reference)


def tuned(rows: Rows, task: str, accuracy: bool) -> float:
    """The cosine's best base rate, by its mean validation metric."""
    means = {
        rate: values[:SEEDS].mean() if accuracy else -values[:SEEDS].mean()
        for rate, values in finals(rows, task, "cosine", "validation").items()
    }
    return max(means, key=lambda rate: means[rate])


def best_peak(rows: Rows, task: str, accuracy: bool) -> float:
    """The same, of the peaks that the policy was put around."""
    peaks = {k[2] for k in rows if k[:2] == (task, AROUND[0])}
    return tuned({k: row for k, row in rows.items() if k[2] in peaks}, task, accuracy)


def table_alone(
    rows: Rows,
    accuracy: dict[str, bool],
    names: Iterable[str],
    base_rates: Iterable[float],
) -> list[str]:
    """Gain over the tuned cosine, by task, method and base rate."""
    rates = [float(f"{rate:.3g}") for rate in base_rates]
    lines = [
        "| task | tuned cosine | method | "
        + " | ".join(f"{rate:.0e}" for rate in rates)
        + " |",
        "| --- | --- | --- |" + " --- |" * len(rates),
    ]
    for task in accuracy:
        best = tuned(rows, task, accuracy[task])
        reference = finals(rows, task, "cosine", "test")[best]
        for name in names:
            by_rate = finals(rows, task, name, "test")
            if by_rate:
                cells = " | ".join(
                    f"{gains(by_rate[rate], reference, accuracy[task]).mean():+.2f}"
                    if rate in by_rate
                    else "–"
                    for rate in rates
                )
                start = f"| {task} | {reference.mean():.5g} at {best:.0e} | {name} | "
                lines.append(start + cells + " |")
    return lines


def table_around(rows: Rows, accuracy: dict[str, bool]) -> list[str]:
    """The policy around a cosine against that cosine, by task and base rate."""
    rates = [float(f"{rate:.3g}") for rate in NEAR]
    lines = [
        "| task | method | " + " | ".join(f"{r:.0e}" for r in rates) + " |",
        "| --- | --- |" + " --- |" * len(rates),
    ]
    for task in accuracy:
        for method in ("cosine", *AROUND):
            found = finals(rows, task, method, "test")
            if all(rate in found for rate in rates):
                cells = " | ".join(f"{found[rate].mean():.5g}" for rate in rates)
                lines.append(f"| {task} | {method} | {cells} |")
    return lines


def verdict_around(rows: Rows, accuracy: dict[str, bool], method: str) -> list[str]:
    """At the peak that is best by validation, and what is won back at the others."""
    lines, shares = [], []
    for task in accuracy:
        around = finals(rows, task, method, "test")
        if not around:
            continue
        plain = finals(rows, task, "cosine", "test")
        peak = best_peak(rows, task, accuracy[task])
        gain = gains(around[peak], plain[peak], accuracy[task])
        started = [r["initial"] for k, r in rows.items() if k[:2] == (task, "cosine")]
        improved = plain[peak].mean() - np.mean(started)
        shares.append(100 * (around[peak] - plain[peak]) / improved)
        best = plain[tuned(rows, task, accuracy[task])][:SEEDS].mean()
        won_back = [
            f"{(around[rate] - plain[rate]).mean() / (best - plain[rate].mean()):.2f} "
            f"of what a peak of {rate:.0e} costs"
            for rate in around
            if rate != peak
        ]
        lines.append(
            f"- {task}: {measures.interval(gain)} "
            f"{'points' if accuracy[task] else '%'} at {peak:.0e}, "
            f"{(gain >= 0).sum()} of {gain.size} at or above; won back "
            + ", ".join(won_back)
        )
    if shares:
        mean, low, high = measures.bootstrap(shares)
        wins = sum((share >= 0).sum() for share in shares)
        lines.append(
            f"- all: {mean:+.2f}% ({low:+.2f} to {high:+.2f}) of what the cosine "
            f"improves; {wins} of {sum(map(len, shares))} runs at or above it"
        )
    return [f"`{method}`:", "", *lines] if lines else []


def table_of_aims(rows: Rows, accuracy: dict[str, bool]) -> list[str]:
    """Worst and median cell of :func:`table_alone`, and runs at or above the cosine."""
    lines = [
        "| | worst, points | median | worst, % of the loss | median | at or above |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name in methods.LEARNED:
        columns, wins = [], []
        for kind in (True, False):
            cells = []
            for task in (t for t in accuracy if accuracy[t] == kind):
                best = tuned(rows, task, kind)
                reference = finals(rows, task, "cosine", "test")[best]
                for values in finals(rows, task, name, "test").values():
                    gain = gains(values, reference, kind)
                    cells.append(gain.mean())
                    wins.extend(gain >= 0)
            columns += [f"{min(cells):+.2f}", f"{np.median(cells):+.2f}"]
        share = f"{100 * np.mean(wins):.0f}% of {len(wins)}"
        lines.append(f"| `{name}` | " + " | ".join([*columns, share]) + " |")
    return lines


def joined(lines: list[str]) -> str:
    """The lines of a table or list, each ended."""
    return "\n".join(lines) + "\n"


def blocks(rows: Rows, accuracy: dict[str, bool]) -> dict[str, str]:
    """The Markdown between the markers of the two pages on it, by their names."""
    verdicts = [verdict_around(rows, accuracy, method) for method in AROUND]
    around = [table_around(rows, accuracy), *verdicts]
    variants = ("learned", *LEARNED_ABLATIONS)
    few = {task: accuracy[task] for task in FEW if task in accuracy}
    return {
        "alone": joined(table_alone(rows, accuracy, methods.LEARNED, BASE_RATES)),
        "ablations": joined(table_alone(rows, few, variants, ABLATION_RATES)),
        "aims": joined(table_of_aims(rows, accuracy)),
        "around": "\n".join(joined(lines) for lines in around),
    }


def recorded(path: Path) -> tuple[Rows, dict[str, bool]]:
    """All runs, cosines included, and by task whether its metric is an accuracy."""
    return read(COSINES) | read(path), is_accuracy(path)


def append(lines: list[dict[str, Any]], output: Path) -> None:
    """Adds rows and their headers to the file."""
    with run.open_to_append(output) as file:
        file.writelines(run.as_json(line) + "\n" for line in lines)


def main() -> None:
    """Runs what is missing, then prints the tables.

    ``python -m benchmark.report`` writes them into docs/learned*.md.
    """
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--data-dir", type=Path, default=prepared.default_dir())
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--tables", action="store_true", help="of what is there")
    args = parser.parse_args()
    if not args.tables:
        for plan in PLANS:
            run.execute(plan, args.output, args.data_dir, args.jobs)
        for task in FEW:
            lines = replay(read(args.output), task, args.data_dir)
            append(lines, args.output)
        rows, accuracy = recorded(args.output)
        for task in accuracy:
            append(more_seeds(rows, accuracy, task, args.data_dir), args.output)
    print(*blocks(*recorded(args.output)).values(), sep="\n")


if __name__ == "__main__":
    main()
