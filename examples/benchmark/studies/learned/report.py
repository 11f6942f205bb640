"""The tables of docs/research/learned*.md, from results.jsonl.

    cd examples && python -m benchmark.studies.learned.report

It prints them; ``python -m benchmark.report`` writes them into the pages. Gains are
over the cosine of the same seed, whose runs are those of studies/base_rate.
"""

from collections.abc import Iterable

import numpy as np

from benchmark import measures, records
from benchmark.measures import Results, Runs
from benchmark.plans import BASE_RATES, STANDARD_TASKS, as_written
from benchmark.studies.base_rate import run as base_rate
from benchmark.studies.learned.run import (
    ABLATION_RATES,
    AROUND,
    FAR,
    FEW,
    NEAR,
    OTHERS,
    RESULTS,
    WITH_OTHERS,
)
from benchmark.summaries import BOUNDS, Capped, improvements
from benchmark.tables import CAPPED, beside, markdown, signed_beside
from benchmark.tasks import DEVELOPMENT
from methods import rules
from methods.learned_ablations import LEARNED_ABLATIONS

COSINES = ("robustness", "optimizers")


def read() -> Results:
    """What is recorded, cosines included."""
    files = (*(base_rate.RESULTS / f"{name}.jsonl" for name in COSINES), RESULTS)
    return measures.gather([line for file in files for line in records.read(file)])


def found(results: Results, tasks: Iterable[str], *names: str) -> list[tuple]:
    """Tasks of which all of these methods were run, and their runs."""
    keys = {task: [(task, "adam", name) for name in names] for task in tasks}
    return [
        (task, *(results[key] for key in of_task))
        for task, of_task in keys.items()
        if results.keys() >= set(of_task)
    ]


def interval(runs: Runs, of_seeds: np.ndarray) -> str:
    """Mean and 95% interval of gains, and what they are in."""
    return measures.interval(of_seeds) + (" points" if runs.facts.is_accuracy else "%")


def table_alone(
    results: Results,
    tasks: Iterable[str],
    names: Iterable[str],
    base_rates: Iterable[float],
) -> str:
    """Gain over the tuned cosine, by task, method and base rate."""
    rates = [as_written(rate) for rate in base_rates]
    header = ["task", "tuned cosine", "method", *(f"{rate:.0e}" for rate in rates)]
    rows = []
    for task in tasks:
        for name in names:
            for _, runs, cosine in found(results, [task], name, "cosine"):
                best = measures.tuned(cosine)
                mean = measures.final_test(cosine)[best].mean()
                gains = [improvements(runs, cosine, b).mean(1) for b in BOUNDS]
                cells = dict.fromkeys(rates, "–")  # not run yet
                for rate, *gain in zip(runs.rates, *gains, strict=True):
                    cells[rate] = signed_beside(Capped(*gain), 2)
                tuned = f"{mean:.5g} at {cosine.rates[best]:.0e}"
                rows.append([task, tuned, name, *(cells[rate] for rate in rates)])
    return markdown(header, rows)


def table_of_aims(results: Results) -> str:
    """Worst and median cell of :func:`table_alone`, and runs at or above the cosine."""
    points, loss = "worst, points", "worst, % of the loss"
    header, rows = ["", points, "median", loss, "median", "at or above"], []
    for name in rules.LEARNED:
        everything, cells = [], {True: [], False: []}
        for _, runs, cosine in found(results, STANDARD_TASKS, name, "cosine"):
            of_runs = improvements(runs, cosine)
            everything.append(of_runs)
            cells[runs.facts.is_accuracy].append(of_runs.mean(1))
        if cells[True] and cells[False]:
            columns = [
                f"{of(cells[kind]):+.2f}"
                for kind in (True, False)
                for of in (np.min, np.median)
            ]
            wins = np.stack(everything) >= 0
            share = f"{100 * wins.mean():.0f}% of {wins.size}"
            rows.append([f"`{name}`", *columns, share])
    return markdown(header, rows)


def table_by_task(results: Results) -> str:
    """The same gains, and autotune's, in the mean of base rates; 95% over seeds."""
    header, rows = ["", *STANDARD_TASKS], []
    for name in (*rules.LEARNED, *rules.AUTOTUNE):
        cells = {
            task: interval(runs, improvements(runs, cosine).mean(0))
            for task, runs, cosine in found(results, STANDARD_TASKS, name, "cosine")
        }
        rows.append([f"`{name}`", *(cells.get(task, "–") for task in STANDARD_TASKS)])
    return markdown(header, rows)


def table_with_others(results: Results) -> str:
    """The same around other optimizers, from three base rates, and from the worst."""
    names = (*rules.LEARNED, *rules.AUTOTUNE)
    far = np.array([as_written(rate) for rate in FAR])
    header, rows = ["", *(f"`{name}`" for name in names)], []
    for task in WITH_OTHERS:
        for optimizer in OTHERS:
            cosine, cells = results.get((task, optimizer, "cosine")), {}
            for name in names:
                runs = results.get((task, optimizer, name))
                if runs and cosine:
                    of_rates = improvements(measures.at_rates(runs, far), cosine).mean(
                        1
                    )
                    cells[name] = f"{of_rates.mean():+.2f} ({of_rates.min():+.2f})"
            row = [f"{task}, {optimizer}", *(cells.get(name, "–") for name in names)]
            rows.append(row)
    return markdown(header, rows)


def table_paired(results: Results) -> str:
    """Gain of the policy over its ablations, in the mean of their base rates."""
    header, rows = ["over", *FEW], []
    for name in LEARNED_ABLATIONS:
        cells = {}
        for task, runs, other in found(results, FEW, "learned", name):
            runs = measures.at_rates(runs, other.rates)
            finals = measures.final_test(runs), measures.final_test(other)
            gain = measures.improvement(*finals, runs.facts.is_accuracy).mean(0)
            cells[task] = interval(runs, gain)
        rows.append([f"`{name}`", *(cells.get(task, "–") for task in FEW)])
    return markdown(header, rows)


def table_around(results: Results) -> str:
    """The policy around a cosine, and that cosine, by task and peak."""
    header, rows = ["task", "method", *(f"{rate:.0e}" for rate in NEAR)], []
    for task, cosine, *around in found(results, STANDARD_TASKS, "cosine", *AROUND):
        cosine = measures.at_rates(cosine, around[0].rates)
        for name, runs in zip(("cosine", *AROUND), (cosine, *around), strict=True):
            finals = [measures.final_test(runs, bound).mean(1) for bound in BOUNDS]
            cells = [
                beside(*(f"{mean:.5g}".replace("inf", "∞") for mean in means))
                for means in zip(*finals, strict=True)
            ]
            rows.append([task, name, *cells])
    return markdown(header, rows)


def verdict_around(results: Results, method: str) -> str:
    """At the peak that is best by validation, and the share recovered at the others."""
    lines, shares = [f"`{method}`:", ""], []
    for task, runs, every in found(results, STANDARD_TASKS, method, "cosine"):
        cosine = measures.at_rates(every, runs.rates)
        around, plain = measures.final_test(runs), measures.final_test(cosine)
        peak, is_accuracy = measures.tuned(cosine), runs.facts.is_accuracy
        gain = measures.improvement(around[peak], plain[peak], is_accuracy)
        improved = plain[peak].mean() - cosine.initial.mean()
        shares.append(100 * (around[peak] - plain[peak]) / improved)
        best = measures.final_test(every)[measures.tuned(every)].mean()
        won_back = [
            f"{(around[i] - plain[i]).mean() / (best - plain[i].mean()):.2f} "
            f"of what a peak of {rate:.0e} costs"
            for i, rate in enumerate(runs.rates)
            if i != peak
        ]
        lines.append(
            f"- {task}: {interval(runs, gain)} at "
            f"{runs.rates[peak]:.0e}, {(gain >= 0).sum()} of {gain.size} at or above; "
            "recovered " + ", ".join(won_back)
        )
    if not shares:
        return ""
    mean, low, high = measures.mean_interval(shares)
    wins = np.concatenate(shares) >= 0
    lines.append(
        f"- all: {mean:+.2f}% ({low:+.2f} to {high:+.2f}) of what the cosine improves; "
        f"{wins.sum()} of {wins.size} runs at or above it"
    )
    return "\n".join(lines) + "\n"


def blocks(results: Results) -> dict[str, str]:
    """The Markdown between the markers of the two pages on it, by their names."""
    around = [verdict_around(results, method) for method in AROUND]
    variants = ("learned", *LEARNED_ABLATIONS)
    tables = {
        "alone": table_alone(results, STANDARD_TASKS, rules.LEARNED, BASE_RATES),
        "aims": table_of_aims(results),
        "by_task": table_by_task(results),
        "with_others": table_with_others(results),
        "around": "\n".join([table_around(results), *around]),
        "ablations": table_alone(results, FEW, variants, ABLATION_RATES),
        "paired": table_paired(results),
    }
    caption = f"{DEVELOPMENT} {said_of_bounds(results)}"
    return {name: f"{caption}\n\n{text}" for name, text in tables.items()}


def said_of_bounds(results: Results) -> str:
    """How many runs of the policy the measures bound; and what brackets mean."""
    runs = [runs for (*_, name), runs in results.items() if name != "cosine"]
    bounded = [measures.final_test(each) != each.test for each in runs]
    count, total = (sum(f(x) for x in bounded) for f in (np.sum, np.size))
    return f"{CAPPED} It bounds {count:,} of the {total:,} runs other than cosines."


if __name__ == "__main__":
    print(*blocks(read()).values(), sep="\n")
