"""Tables of autotune and of the peers from all base rates, under each optimizer."""

from collections.abc import Callable

import numpy as np

from benchmark import measures, summaries
from benchmark.measures import Results
from benchmark.summaries import BOUNDS, Capped
from benchmark.tables import CAPPED, Table, beside, show_time, signed_beside, unsigned
from benchmark.tasks import DEVELOPMENT
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
            rate += " *" * (best in (0, len(cosine.rates) - 1))
            uncapped = measures.final_test(cosine, measures.uncapped)[best].mean()
            mean = beside(unsigned(test.mean()), unsigned(uncapped))
            cell = f"{mean} ± {measures.standard_deviation(test):.2g} ({rate})"
            found.append((task, optimizer, cell))
    return sorted(found, key=lambda row: (row[1] != "adam", row))


def decade_improvements(
    results: Results, task: str, optimizer: str, method: str
) -> list[np.ndarray]:
    """Mean gain over the tuned cosine from each decade, capped and as it is."""
    runs = results[task, optimizer, method]
    cosine = results[task, optimizer, "cosine"]
    gains = [summaries.improvements(runs, cosine, bound) for bound in BOUNDS]
    return [gain[summaries.is_decade(runs)].mean(1) for gain in gains]


def chosen(gains: list[np.ndarray], choose: Callable[[np.ndarray], float]) -> Capped:
    """The ``choose``-n of both."""
    return Capped(*(float(choose(gain)) for gain in gains))


def autotune(results: Results) -> Table:
    """For docs/comparison.md: one line a task and optimizer."""
    rows = []
    for task, optimizer, cosine in against_cosine(results):
        worst = [
            chosen(decade_improvements(results, task, optimizer, name), np.min)
            for name in rules.AUTOTUNE
        ]
        unit = results[task, optimizer, "cosine"].facts.unit
        rows.append(
            [
                *(f"{task}, {unit}", optimizer, cosine),
                *(signed_beside(x, 2) for x in worst),
            ]
        )
    return Table(
        "autotune",
        f"{DEVELOPMENT} "
        "Test metric against a tuned cosine schedule, with the same steps and seeds "
        "and the search counted. *Worst* is the worst of nine base learning rates from "
        "1e-7 to 10, in points of accuracy or percent of the loss; positive is better. "
        "*Interpolated* is with `interpolate=True` and the optimizer without momentum. "
        "The cosine's ± is the standard deviation of its seeds; * is at an end of its "
        f"grid of rates. {CAPPED}",
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
        for name, (interpolates, has_total_steps) in rules.AUTOTUNE.items():
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
                    "given" if has_total_steps else "not given",
                    signed_beside(chosen(gains, np.min), 2),
                    signed_beside(chosen(gains, np.median), 2),
                    show_time(mean, missed, times.size),
                    show_mean(runs.search_steps),
                    f"{np.nansum(runs.rollbacks):.0f} in {runs.rollbacks.size}",
                ]
            )
    return Table(
        "autotune and the base rate",
        f"{DEVELOPMENT} "
        "Gain over the tuned cosine at the worst and the median base learning rate "
        "from 1e-7 to 10, in points of accuracy or percent of loss; search counted. "
        "Time to target is a fraction of the run. Search is in steps, over the runs "
        "that have recorded it; rollbacks are blow-ups undone, in so many runs. "
        f"{CAPPED}",
        [
            *("task", "optimizer", "tuned cosine (rate)", "gradients", "total_steps"),
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
    """For docs/research/autotune.md: each method at its worst and best base rate."""
    tasks, names = summaries.complete(results)
    cosines = summaries.of_method(results, "adam", "cosine")
    rows = []
    for name in names:
        if name == "cosine":
            continue
        cells, worst, best = [], [], []
        for task in tasks:
            runs, cosine = results[task, "adam", name], cosines[task]
            gains = [summaries.improvements(runs, cosine, b).mean(1) for b in BOUNDS]
            shares = [summaries.shares(runs, cosine, bound=b).mean(1) for b in BOUNDS]
            tuned = measures.tuned(runs)
            at_worst = signed_beside(chosen(gains, np.min), 1)
            at_best = signed_beside(Capped(*(gain[tuned] for gain in gains)), 1)
            cells.append(f"{at_worst} / {at_best}")
            worst.append([share.min() for share in shares])
            best.append([share[tuned] for share in shares])
        pooled = Capped(*np.min(worst, 0)), Capped(*np.mean(best, 0))
        text = [signed_beside(one, 1) for one in pooled]
        rows.append((pooled, [f"`{name}`", *text, *cells]))
    units = [f"{task}, {cosines[task].facts.unit}" for task in tasks]
    return Table(
        "autotune and the peers",
        f"{DEVELOPMENT} "
        "From nine base learning rates: gain over the tuned cosine at the "
        "method's *worst* one / at its *best*, which is chosen by validation; "
        "in points of accuracy or percent of the loss, mean of "
        f"{cosines[tasks[0]].test.shape[1]} seeds. *All* is in percent of what the "
        f"cosine improves: the worst of the tasks / the mean of them. {CAPPED}",
        ["method", "all, worst", "all, best", *units],
        [row for _, row in sorted(rows, key=lambda row: row[0], reverse=True)],
    )
