"""Tables and the picture of docs/rl*.md, from results/rl.jsonl.

cd examples && python -m benchmark.rl_report [--picture ../docs/rl.png]

It prints the tables; ``python -m benchmark.report`` writes them into the pages.
"""

import argparse
from collections import defaultdict
from pathlib import Path

import numpy as np

from benchmark import measures, records
from benchmark import rl as experiment
from benchmark.learned_picture import states_along
from benchmark.tables import markdown
from optax_adaptive.controllers.online import offline_prior
from policy.prior_fits import first_actions

ACCURACY = ("digits", "noisy", "cnn")  # percent correct; the others are losses
DRAWN = 5  # seeds of the variants, and in the picture

Key = tuple[str, str, float, str]  # task, anchor, offset, method


def read(path: Path) -> dict[Key, dict]:
    """Seeds, metrics and log factors of each group, in order of seed."""
    groups = defaultdict(list)
    for row in records.rows(path):
        key = (row["task"], row["anchor"], row["offset"], row["method"])
        groups[key].append(row)
    table = {}
    for key, rows in groups.items():
        rows.sort(key=lambda row: row["seed"])
        table[key] = {
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


def gain(table: dict[Key, dict], task: str, anchor: str, method: str) -> np.ndarray:
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
    """The part of what the bad peak costs that a method wins back, of means.

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
    return [method for method in experiment.RULES if method in run - {"constant"}]


def main_table(table: dict) -> str:
    """Around a tuned cosine: gain over the same without a rule."""
    anchor = experiment.ANCHOR
    methods = learners(table, anchor)
    rows = []
    for task in experiment.PEAKS:
        if (task, anchor, 1.0, "constant") not in table:
            continue
        alone = table[task, anchor, 1.0, "constant"]["metric"]
        unit = "%" if task in ACCURACY else "MW" if task == "demand" else "nats"
        cells = [
            measures.interval(gain(table, task, anchor, method))
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
    for task in experiment.PEAKS:
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
    changed = [m for m in experiment.METHODS if m not in experiment.RULES]
    for method in (*learners(table, "cosine"), *changed):
        if (task, "cosine", 1.0, method) not in table:
            continue
        cells = [measures.interval(gain(table, task, "cosine", method))]
        cells += [
            recovered(table, task, offset, method, DRAWN) for offset in (0.1, 10.0)
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
    ablations = [
        ablation_table(table, task)
        for task in experiment.PEAKS
        if (task, "cosine", 1.0, "random actions") in table
    ]
    return {
        "anchors": main_table(table),
        "recovery": recovery_table(table),
        "ablations": "\n".join(ablations),
    }


def draw(table: dict, path: Path) -> None:
    """What the prior wants in a state; the factor over runs on digits.

    The state is one in the middle of a descent, at the anchor's own rate. The bandit's
    single runs are thin lines.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 3), layout="constrained")
    progress = (np.arange(experiment.TRACE) + 0.5) / experiment.TRACE
    first, *rows = figure.subplots(1, 4, sharey=True)
    costs, states = states_along("cost", -1.5, 1.5)
    actions = first_actions(offline_prior.shipped(), states)
    for method in experiment.LEARNERS:
        first.plot(10.0**costs, 10.0 ** actions[method], label=method)
    first.axhline(1, color="black", lw=0.8)
    first.set(
        xscale="log",
        title="what the prior wants",
        xlabel="what noise costs over what is won",
        ylabel="factor on the anchor's rate",
    )
    first.legend()
    for axes, offset in zip(rows, (0.1, 1.0, 10.0), strict=True):
        for method in experiment.LEARNERS:
            runs = table["digits", "cosine", offset, method]["log_factors"][:DRAWN]
            (line,) = axes.plot(progress, np.exp(runs.mean(0)), label=method)
            if method == "bandit":
                axes.plot(progress, np.exp(runs.T), color=line.get_color(), lw=0.4)
        axes.axhline(1, color="black", lw=0.8)
        axes.set(yscale="log", xlabel="part of the run")
        axes.set_title(f"digits, cosine peak {offset:g} x tuned")
    figure.savefig(path, dpi=110)


def main() -> None:
    """Prints the tables, and draws if asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, default=experiment.RESULTS)
    parser.add_argument("--picture", type=Path)
    args = parser.parse_args()
    table = read(args.results)
    print(*blocks(table).values(), sep="\n")
    if args.picture:
        draw(table, args.picture)


if __name__ == "__main__":
    main()
