"""Sentences that the results support, made from them: where static schedules win."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy import stats

from benchmark import measures, plans, records, summaries, tables
from benchmark.measures import Results
from benchmark.tasks import DEVELOPMENT

FEEDBACK = ("rule", "learner", "autotune")
FIRST, CONTROL = "autotune_anytime", "constant_averaged"
KINDS = {
    "static schedule": ("schedule",),
    "the same, averaged (control)": ("control",),
    "published method": ("peer",),
    "rule or learner of this library": ("rule", "learner"),
    "form of autotune": ("autotune",),
}


def best_of(results: Results, task: str, names: list[str]) -> tuple[str, float]:
    """The best method by validation, each at its tuned rate, and its test metric."""
    validation, test = {}, {}
    for name in names:
        runs = results[task, "adam", name]
        rate = measures.tuned(runs)
        validation[name] = measures.final_validation(runs)[rate].mean()
        test[name] = float(measures.final_test(runs)[rate].mean())
    is_accuracy = results[task, "adam", "cosine"].facts.is_accuracy
    best = (max if is_accuracy else min)(names, key=validation.__getitem__)
    return best, test[best]


def validation_improvement(results: Results, tasks: list[str], method: str) -> float:
    """Mean over tasks of a tuned method's gain on validation: what to choose by."""
    gains = [
        at_tuned(results, task, method, measures.final_validation).mean()
        for task in tasks
    ]
    return float(np.mean(gains))


def at_tuned(
    results: Results,
    task: str,
    method: str,
    final: Callable[..., np.ndarray] = measures.final_test,
) -> np.ndarray:
    """(s,): gain over the tuned cosine, as a share, at the tuned rate."""
    runs, cosine = results[task, "adam", method], results[task, "adam", "cosine"]
    return summaries.shares(runs, cosine, final)[measures.tuned(runs)]


def of_families(names: list[str], *families: str) -> list[str]:
    """Those of ``names`` that belong to one of them."""
    return [name for name in names if summaries.family(name) in families]


def wins(results: Results, theirs: list[str], ours: list[str]) -> tuple[int, str]:
    """On how many tasks the best of ``theirs`` ends better on test; and which."""
    found = []
    for task in summaries.complete(results)[0]:
        is_accuracy = results[task, "adam", "cosine"].facts.is_accuracy
        other, a = best_of(results, task, theirs)
        mine, b = best_of(results, task, ours)
        if measures.improvement(a, b, is_accuracy) > 0:
            found.append(f"{task} (`{other}` {a:#.4g}, `{mine}` {b:#.4g})")
    return len(found), f": {', '.join(found)}" if found else ""


def sentences(results: Results) -> list[str]:
    """Where the best static schedule ends better, and what is left without averaging.

    Of ``autotune`` the form that is told nothing counts, which users are to take first.
    """
    tasks, names = summaries.complete(results)
    schedules = of_families(names, "schedule")
    feedback = of_families(names, *FEEDBACK)
    said = []
    for ours, label in (
        ([FIRST] if FIRST in names else [], f"`{FIRST}`"),
        (feedback, "the best of all rules, learners and forms of `autotune`"),
    ):
        if schedules and ours:
            count, which = wins(results, schedules, ours)
            said.append(
                "Each at its tuned rate, and chosen by validation, the best static "
                f"schedule ends better on test than {label} on {count} of "
                f"{len(tasks)} tasks{which}."
            )
    if {FIRST, CONTROL} <= set(names):
        mean, low, high = measures.mean_interval(
            [
                at_tuned(results, task, FIRST) - at_tuned(results, task, CONTROL)
                for task in tasks
            ]
        )
        said.append(
            f"`{FIRST}` less `{CONTROL}`, a tuned constant rate with the same average, "
            f"is {mean:+.2f} ({low:+.2f}, {high:+.2f}), in percent of what the tuned "
            "cosine improves."
        )
    return said


def best_of_kinds(results: Results) -> tables.Table:
    """A row for each kind of method: its best after tuning, and its safest."""
    tasks, names = summaries.complete(results)
    rows = summaries.summaries(results)
    body = []
    for label, families in KINDS.items():
        members = of_families(names, *families)
        mine = [row for row in rows if row.method in members]
        if not mine:
            continue
        top = max(
            mine, key=lambda row: validation_improvement(results, tasks, row.method)
        )
        mean, low, high = top.tuned
        safe = max(mine, key=lambda row: row.worst)
        worst = tables.signed_beside(safe.worst, 1)
        gain = f"{mean:+.2f} ({low:+.2f}, {high:+.2f})"
        body.append([label, f"`{top.method}`", gain, f"`{safe.method}`", worst])
    return tables.Table(
        "The best of each kind",
        f"{DEVELOPMENT} *Best, tuned*: at its tuned rate, chosen by validation, with "
        "its gain on test over the tuned cosine, in percent of what that improves from "
        "the start, and a 95% interval over seeds. *Safest*: the method whose worst "
        f"base rate on its worst task is best, and that gain. {tables.CAPPED}",
        ["kind", "best, tuned", "gain", "safest", "gain from its worst rate"],
        body,
    )


def missing(lines: list[dict[str, Any]], plan: plans.Plan) -> list[str]:
    """What has not been run of a plan, in a sentence; none once all of it has."""
    done = {records.key(line) for line in lines if "header" not in line}
    lacking = {  # base rates by method
        method: {
            rate
            for optimizer in plan.optimizers
            for rate in plan.rates(method, optimizer)
            for task in plan.tasks
            for seed in range(plan.seeds)
            if (task, optimizer, method, rate, seed) not in done
        }
        for method in plan.methods
    }
    absent = [
        method
        for method, rates in lacking.items()
        if rates == set(plan.rates(method, plan.optimizers[0]))
    ]
    counts = Counter(
        rate for m, rates in lacking.items() if m not in absent for rate in rates
    )
    parts = [
        f"base rate {rate:g} of {count} methods"
        for rate, count in sorted(counts.items())
    ]
    parts += [", ".join(f"`{method}`" for method in absent)] if absent else []
    if not parts:
        return []
    return [
        f"Not run yet of the plan, on some tasks at least: {'; '.join(parts)}. All "
        "figures are of the base rates that every method shown has."
    ]


def quick_agrees(lines: list[dict[str, Any]]) -> list[str]:
    """How like the quick plan ranks the methods, from its part of the standard runs."""
    quick = plans.PLANS["quick"]
    part = [
        line
        for line in lines
        if "header" in line
        or (
            line["task"] in quick.tasks
            and line["base_rate"] in quick.rates(line["method"], line["optimizer"])
            and line["seed"] < quick.seeds
        )
    ]
    whole = {row.method: row for row in summaries.summaries(summaries.gather(lines))}
    small = {row.method: row for row in summaries.summaries(summaries.gather(part))}
    names = [name for name in whole if name in small]
    if len(names) < 3:
        return []
    correlations = [
        stats.spearmanr([f(whole[n]) for n in names], [f(small[n]) for n in names])[0]
        for f in (lambda row: row.tuned[0], lambda row: row.median.value)
    ]
    return [
        "The quick plan's part of these runs ranks the methods with a correlation of "
        f"{correlations[0]:.2f} to all of them by the tuned rate, and of "
        f"{correlations[1]:.2f} by the median rate (Spearman)."
    ]
