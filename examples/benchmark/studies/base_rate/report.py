"""Tables of autotune and of the peers from all base rates, under each optimizer."""

import numpy as np

from benchmark import measures, summaries
from benchmark.measures import Results
from benchmark.tables import Table, show_time
from methods import rules

NAMES = ("cosine", *rules.AUTOTUNE)


def with_autotune(files: list[Results]) -> Results:
    """Cosine and autotune of each task and optimizer, of the first file with all.

    Two files may have tuned and seeded them differently.
    """
    chosen: Results = {}
    for results in reversed(files):
        for task, optimizer in dict.fromkeys((t, o) for t, o, _ in results):
            keys = [(task, optimizer, name) for name in NAMES]
            if all(key in results for key in keys):
                chosen |= {key: results[key] for key in keys}
    return dict(sorted(chosen.items()))


def against_cosine(results: Results) -> list[tuple[str, str, str]]:
    """Task, optimizer and cell of the tuned cosine."""
    found = []
    for (task, optimizer, name), cosine in results.items():
        if name == "cosine":
            best = measures.tuned(cosine)
            test = measures.final_test(cosine)[best]
            rate = f"{cosine.rates[best]:.1e}"
            cell = f"{test.mean():#.4g} ± {test.std():.2g} ({rate})"
            found.append((task, optimizer, cell))
    return sorted(found, key=lambda row: (row[1] != "adam", row))


def decade_improvements(
    results: Results, task: str, optimizer: str, method: str
) -> np.ndarray:
    """Mean gain over the tuned cosine from each decade."""
    runs = results[task, optimizer, method]
    gains = summaries.improvements(runs, results[task, optimizer, "cosine"])
    return gains[summaries.is_decade(runs)].mean(1)


def autotune(results: Results) -> Table:
    """For docs/comparison.md: one line a task and optimizer."""
    rows = []
    for task, optimizer, cosine in against_cosine(results):
        worst = [
            decade_improvements(results, task, optimizer, name).min()
            for name in rules.AUTOTUNE
        ]
        unit = results[task, optimizer, "cosine"].facts.unit
        rows.append(
            [f"{task}, {unit}", optimizer, cosine, *(f"{x:+.2f}" for x in worst)]
        )
    return Table(
        "autotune",
        "Test metric against a tuned cosine schedule, with the same steps and seeds "
        "and the search counted. *Worst* is the worst of nine base learning rates from "
        "1e-7 to 10, in points of accuracy or percent of the loss; positive is better. "
        "*Interpolated* is with `interpolate=True` and the optimizer without momentum.",
        [
            *("task", "optimizer", "tuned cosine (its rate)"),
            *("worst, `total_steps` given", "not given"),
            *("interpolated, given", "interpolated, not given"),
        ],
        rows,
    )


def robustness(results: Results) -> Table:
    """For docs/research/autotune.md: with median, and time to the target."""
    rows = []
    for task, optimizer, cosine in against_cosine(results):
        for name, (interpolates, knows_horizon) in rules.AUTOTUNE.items():
            runs = results[task, optimizer, name]
            reference = results[task, optimizer, "cosine"]
            gains = decade_improvements(results, task, optimizer, name)
            times = summaries.all_times(runs, reference)[summaries.is_decade(runs)]
            missed = int(np.isinf(times).sum())
            mean = measures.geometric_mean(times)
            rows.append(
                [
                    f"{task}, {runs.facts.unit}",
                    optimizer,
                    cosine,
                    "interpolated" if interpolates else "plain",
                    "known" if knows_horizon else "not known",
                    f"{gains.min():+.2f}",
                    f"{np.median(gains):+.2f}",
                    show_time(mean, missed, times.size),
                    show_mean(runs.search_steps),
                    f"{np.nansum(runs.rollbacks):.0f} in {runs.rollbacks.size}",
                ]
            )
    return Table(
        "autotune and the base rate",
        "Gain over the tuned cosine at the worst and the median decade of base rates "
        "from 1e-7 to 10, in points of accuracy or percent of loss; search counted. "
        "Time to target is a fraction of the run. Search is in steps, over the runs "
        "that have recorded it; rollbacks are blow-ups undone, in so many runs.",
        [
            *("task", "optimizer", "tuned cosine (rate)", "gradients", "horizon"),
            *("worst", "median", "time to target", "search", "rollbacks"),
        ],
        rows,
    )


def show_mean(values: np.ndarray) -> str:
    """The mean of what is not nan, if anything is."""
    known = values[np.isfinite(values)]
    return f"{known.mean():.0f}" if known.size else "–"


def with_peers(robustness: Results, peers: Results) -> Results:
    """Cosine and autotune with the peers, all on the seeds that the peers have."""
    if not peers:
        return {}
    count = min(runs.test.shape[1] for runs in peers.values())
    own = {key: runs for key, runs in robustness.items() if key[1] == "adam"}
    every = own | {k: runs for k, runs in peers.items() if (*k[:2], "cosine") in own}
    return {key: measures.first_seeds(runs, count) for key, runs in every.items()}


def peers(results: Results) -> Table:
    """For docs/research/autotune.md: each method at its worst and its best decade."""
    tasks, names = summaries.complete(results)
    cosines = summaries.of_method(results, "adam", "cosine")
    rows = []
    for name in names:
        if name == "cosine":
            continue
        cells, worst, best = [], [], []
        for task in tasks:
            runs, cosine = results[task, "adam", name], cosines[task]
            gains = summaries.improvements(runs, cosine).mean(1)
            shares = summaries.shares(runs, cosine).mean(1)
            chosen = measures.tuned(runs)
            cells.append(f"{gains.min():+.1f} / {gains[chosen]:+.1f}")
            worst.append(shares.min())
            best.append(shares[chosen])
        pooled = min(worst), float(np.mean(best))
        rows.append((pooled, [f"`{name}`", f"{pooled[0]:+.1f}", f"{pooled[1]:+.1f}"]))
        rows[-1][1].extend(cells)
    units = [f"{task}, {cosines[task].facts.unit}" for task in tasks]
    return Table(
        "autotune and the peers",
        "From all nine decades of base rates: gain over the tuned cosine at the "
        "method's *worst* decade / at its *best* one, which is chosen by validation; "
        "in points of accuracy or percent of the loss, mean of "
        f"{cosines[tasks[0]].test.shape[1]} seeds. *All* is in percent of what the "
        "cosine improves: the worst of the tasks / the mean of them.",
        ["method", "all, worst", "all, best", *units],
        [row for _, row in sorted(rows, key=lambda row: -row[0][0])],
    )
