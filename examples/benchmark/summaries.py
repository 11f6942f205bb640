"""A method over all tasks, against the tuned cosine of each."""

from collections.abc import Callable
from functools import reduce
from typing import Any, NamedTuple

import numpy as np

from benchmark import measures
from benchmark.measures import Results, Runs
from methods import controls, peers, rules
from methods.schedules import SCHEDULES

BOUNDS = (measures.capped, measures.uncapped)
LEARNERS = ("bandit", "q_learning", "actor_critic", *rules.LEARNED)


def is_decade(runs: Runs) -> np.ndarray:
    """Which base rates are whole decades: (r,), bool."""
    exponents = np.log10(runs.rates)
    return np.abs(exponents - exponents.round()) < 1e-6


def family(method: str) -> str:
    """schedule, control, peer, rule, learner, ablation or autotune."""
    bare = method.removeprefix("cosine+")
    if method in rules.AUTOTUNE:
        return "autotune"
    if method in SCHEDULES:
        return "schedule"
    if method in controls.CONTROLS:
        return "control"
    if method in peers.PEERS:
        return "peer"
    if bare in ("constant", "random"):
        return "ablation"
    return "learner" if bare in LEARNERS else "rule"


class Capped(NamedTuple):
    """A figure in which no run counts as worse than it began, and the same as it is."""

    value: float
    uncapped: float


class Summary(NamedTuple):
    """A method over all tasks; what the headline table shows."""

    method: str
    tuned: tuple[float, float, float]  # mean gain over the tuned cosine, and interval
    tuned_uncapped: float  # the mean
    worst: Capped  # of tasks and decades, gain over the tuned cosine
    median: Capped
    time: float  # geometric mean, inf with a miss
    missed: int
    times: int
    score: float
    score_any_rate: float
    sensitivity: Capped
    failed: int
    stuck: int
    runs: int


def of_method(results: Results, optimizer: str, method: str) -> dict[str, Runs]:
    """By task."""
    return {
        task: runs
        for (task, o, m), runs in results.items()
        if (o, m) == (optimizer, method)
    }


def check_paired(runs: Runs, cosine: Runs) -> None:
    """Raises ValueError unless both have as many seeds."""
    if runs.test.shape[1] != cosine.test.shape[1]:
        raise ValueError(
            f"seeds must be paired, but a method has {runs.test.shape[1]} and the "
            f"cosine {cosine.test.shape[1]}; run both with the same --seeds"
        )


def improvements(
    runs: Runs, cosine: Runs, bound: measures.Bound = measures.capped
) -> np.ndarray:
    """(r, s): test metric against the tuned cosine of the same seed."""
    check_paired(runs, cosine)
    reference = measures.final_test(cosine)[measures.tuned(cosine)]
    return measures.improvement(
        measures.final_test(runs, bound), reference, runs.facts.is_accuracy
    )


def shares(
    runs: Runs,
    cosine: Runs,
    final: Callable[..., np.ndarray] = measures.final_test,
    bound: measures.Bound = measures.capped,
) -> np.ndarray:
    """(r, s): the same as a percentage of all that the tuned cosine improved.

    Points of accuracy and percent of a loss, of which a bad run can lose any number,
    are made comparable, so that tasks can be pooled: -100 is no progress at all.
    """
    check_paired(runs, cosine)
    reference = final(cosine)[measures.tuned(cosine)]
    improved = reference.mean() - cosine.initial.mean()  # negative for a loss
    return 100.0 * (final(runs, bound) - reference) / improved


def all_times(runs: Runs, cosine: Runs) -> np.ndarray:
    """(r, s): fraction of the run until the target."""
    return measures.time_to(runs.best, measures.target(cosine), runs.facts.is_accuracy)


def complete(results: Results, optimizer: str = "adam") -> tuple[list[str], list[str]]:
    """Tasks that have a cosine, and the methods that have run on all of them."""
    tasks = [t for t, o, m in results if (o, m) == (optimizer, "cosine")]
    names = dict.fromkeys(m for _, o, m in results if o == optimizer)
    full = [
        name for name in names if all((t, optimizer, name) in results for t in tasks)
    ]
    return tasks, full


def gather(lines: list[dict[str, Any]]) -> Results:
    """The runs of a plan's file, at the base rates that all of its methods have.

    So all have the same grid while the plan is still being run, too.
    """
    results = measures.gather(lines)
    tasks, names = complete(results)
    for task in tasks:
        of_task = {(task, "adam", name) for name in names}
        common = reduce(np.intersect1d, [results[key].rates for key in of_task])
        if not common.size:
            raise ValueError(
                f"no base rate on {task} was run with all methods; run the plan to its "
                "end, or report on a file of its own"
            )
        results |= {key: measures.at_rates(results[key], common) for key in of_task}
    return results


def of_decades(
    mine: dict[str, Runs], cosines: dict[str, Runs], bound: measures.Bound
) -> np.ndarray:
    """Gains at the decades of all tasks, each in the mean of seeds."""
    gains = [
        shares(runs, cosines[task], bound=bound)[is_decade(runs)].mean(1)
        for task, runs in mine.items()
    ]
    return np.concatenate(gains)


def sensitivity(mine: dict[str, Runs], bound: measures.Bound) -> float:
    """In the mean of tasks, over the decades."""
    found = []
    for runs in mine.values():
        losses = measures.final_validation(runs, bound)[is_decade(runs)].mean(1)
        start = float(runs.initial.mean())
        if runs.facts.is_accuracy:
            losses, start = 100 - losses, 100 - start
        is_capped = bound is measures.capped
        found.append(measures.sensitivity(losses, start, is_capped))
    return float(np.mean(found))


def summaries(results: Results, optimizer: str = "adam") -> list[Summary]:
    """All methods, the best mean gain of the tuned rate first."""
    tasks, names = complete(results, optimizer)
    cosines = of_method(results, optimizer, "cosine")
    found, tuned_times, any_times = [], [], []
    for name in names:
        mine = {task: results[task, optimizer, name] for task in tasks}
        time = [all_times(mine[task], cosines[task]) for task in tasks]
        best = [measures.tuned(mine[task]) for task in tasks]
        at_tuned = {
            bound: [
                shares(mine[task], cosines[task], bound=bound)[i]
                for task, i in zip(tasks, best, strict=True)
            ]
            for bound in BOUNDS
        }
        decades = [of_decades(mine, cosines, bound) for bound in BOUNDS]
        at_best = np.concatenate([t[i] for t, i in zip(time, best, strict=True)])
        tuned_times.append([np.median(t[i]) for t, i in zip(time, best, strict=True)])
        any_times.append(np.concatenate([np.median(t, 1) for t in time]))
        found.append(
            Summary(
                method=name,
                tuned=measures.mean_interval(at_tuned[measures.capped]),
                tuned_uncapped=float(
                    np.mean([gain.mean() for gain in at_tuned[measures.uncapped]])
                ),
                worst=Capped(*(float(gains.min()) for gains in decades)),
                median=Capped(*(float(np.median(gains)) for gains in decades)),
                time=measures.geometric_mean(at_best),
                missed=int(np.isinf(at_best).sum()),
                times=at_best.size,
                score=0.0,
                score_any_rate=0.0,
                sensitivity=Capped(*(sensitivity(mine, bound) for bound in BOUNDS)),
                failed=sum(int(mine[task].failed.sum()) for task in tasks),
                stuck=sum(int(measures.is_stuck(mine[task]).sum()) for task in tasks),
                runs=sum(mine[task].failed.size for task in tasks),
            )
        )
    if not found:
        return []
    scores = measures.score(np.array(tuned_times))
    any_scores = measures.score(np.array(any_times))
    found = [
        row._replace(score=float(a), score_any_rate=float(b))
        for row, a, b in zip(found, scores, any_scores, strict=True)
    ]
    return sorted(found, key=lambda row: -row.tuned[0])
