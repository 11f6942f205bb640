"""Tables of docs/research/rl*.md, from results.jsonl.

    cd examples && python -m benchmark.studies.online.report

It prints the tables; ``python -m benchmark.report`` writes them into the pages.
"""

from collections import defaultdict
from pathlib import Path

import numpy as np

from benchmark import measures
from benchmark.studies.online import run as experiment
from benchmark.studies.online.rules import RULES
from benchmark.tables import markdown
from benchmark.tasks import ACCURACY, DEVELOPMENT

Key = tuple[str, str, float, str]  # task, anchor, offset, method


def read(path: Path) -> dict[Key, dict]:
    """Seeds, metrics and log factors of each group, in order of seed.

    Of a task that was run at more than one tuned peak, the runs at the last one.
    """
    groups = defaultdict(list)
    every = experiment.read_rows(path)
    last = {row["task"]: row["peak"] for row in every}
    for row in every:
        if row["peak"] != last[row["task"]]:
            continue
        key = (row["task"], row["anchor"], row["offset"], row["method"])
        groups[key].append(row)
    table = {}
    for key, rows in groups.items():
        rows.sort(key=lambda row: row["seed"])
        table[key] = {
            "peak": last[key[0]],
            "seeds": [row["seed"] for row in rows],
            "metric": np.array([row["metric"] for row in rows]),
            # Of the seeds that the picture shows, where it shows any.
            "log_factors": np.array(
                [row["log_factors"] for row in rows if "log_factors" in row]
            ),
        }
    return table


def paired(table: dict[Key, dict], *keys: Key) -> list[np.ndarray]:
    """Metrics of the groups, each of the seeds that all of them have."""
    common = set.intersection(*(set(table[key]["seeds"]) for key in keys))
    return [
        table[key]["metric"][[seed in common for seed in table[key]["seeds"]]]
        for key in keys
    ]


def improvement(
    table: dict[Key, dict], task: str, anchor: str, method: str
) -> np.ndarray:
    """Over the tuned anchor alone, by seed: points of accuracy, or percent of the loss.

    Positive is better.
    """
    metric, alone = paired(
        table, (task, anchor, 1.0, method), (task, anchor, 1.0, "constant")
    )
    if task in ACCURACY:
        return metric - alone
    return 100 * (alone - metric) / alone


def recovered(
    table: dict[Key, dict],
    task: str,
    offset: float,
    method: str,
    seeds: int | None = None,
) -> str:
    """The share of the loss by the bad peak that a method recovers, of means.

    Of the first ``seeds``, or all that there are.
    """
    keys = [
        (task, "cosine", offset, method),
        (task, "cosine", offset, "constant"),
        (task, "cosine", 1.0, "constant"),
    ]
    if not set(keys) <= table.keys():
        return "–"
    metric, bad, good = (metrics[:seeds].mean() for metrics in paired(table, *keys))
    return f"{(metric - bad) / (good - bad):.2f}"


def learners(table: dict, *anchors: str) -> list[str]:
    """The rules that were run around those, without the one that never moves."""
    run = {method for _, anchor, _, method in table if anchor in anchors}
    return [method for method in RULES if method in run - {"constant"}]


def main_table(table: dict) -> str:
    """Around a tuned cosine: gain over the same without a rule."""
    anchor = experiment.ANCHOR
    methods = learners(table, anchor)
    rows = []
    for task in experiment.NAMES:
        if (task, anchor, 1.0, "constant") not in table:
            continue
        alone = table[task, anchor, 1.0, "constant"]["metric"]
        unit = "%" if task in ACCURACY else "MW" if task == "demand" else "nats"
        cells = [
            measures.interval(improvement(table, task, anchor, method))
            if (task, anchor, 1.0, method) in table
            else "–"
            for method in methods
        ]
        mean = f"{alone.mean():#.4g} {unit}"
        rows.append([f"{task}, {anchor}", mean, *cells])
    return markdown(["anchor", "alone", *methods], rows)


def recovery_table(table: dict) -> str:
    """Around a cosine whose peak is ten times too small or too large."""
    methods = learners(table, "cosine")
    rows = []
    for task in experiment.NAMES:
        for offset in (0.1, 10.0):
            if (task, "cosine", offset, "constant") not in table:
                continue
            alone, tuned = paired(
                table,
                (task, "cosine", offset, "constant"),
                (task, "cosine", 1.0, "constant"),
            )
            cells = [recovered(table, task, offset, method) for method in methods]
            means = f"{alone.mean():#.4g} ({tuned.mean():#.4g})"
            rows.append([f"{task}, x{offset:g}", means, *cells])
    return markdown(["task, peak", "alone (tuned)", *methods], rows)


def ablation_table(table: dict, task: str) -> str:
    """One row a variant: gain at the tuned peak, and what is recovered off it.

    That on the seeds of the variants, of which the learners themselves have more.
    """
    rows = []
    changed = [m for m in experiment.METHODS if m not in RULES]
    for method in (*learners(table, "cosine"), *changed):
        if (task, "cosine", 1.0, method) not in table:
            continue
        cells = [measures.interval(improvement(table, task, "cosine", method))]
        cells += [
            recovered(table, task, offset, method, experiment.SHOWN)
            for offset in (0.1, 10.0)
        ]
        rows.append([method, *cells])
    return markdown(
        [
            *(f"{task}: variant", "gain, tuned peak"),
            *("recovered, x0.1", "recovered, x10"),
        ],
        rows,
    )


def blocks(table: dict) -> dict[str, str]:
    """The Markdown between the markers of the two pages, by their names."""
    caption = f"{DEVELOPMENT} {said_of_peaks(table, experiment.tuned_peaks())}\n\n"
    ablations = [
        ablation_table(table, task)
        for task in experiment.NAMES
        if (task, "cosine", 1.0, "random actions") in table
    ]
    return {
        "anchors": caption + main_table(table),
        "recovery": caption + recovery_table(table),
        "ablations": caption + "\n".join(ablations),
    }


def said_of_peaks(table: dict, tuned: dict[str, float]) -> str:
    """Whether the anchors' peaks are those that are best by the rows there are now."""
    had = {task: table[task, *rest]["peak"] for task, *rest in table}
    others = [
        f"{task} ({10**peak:.1e}, where the best is {10 ** tuned[task]:.1e})"
        for task, peak in had.items()
        if peak is not None and peak != tuned[task]
    ]
    text = "The tuned peak is the best of the cosine's grid on validation"
    return f"{text}, but on {', '.join(others)}." if others else f"{text}."


if __name__ == "__main__":
    print(*blocks(read(experiment.RESULTS)).values(), sep="\n")
