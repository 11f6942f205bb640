"""A method over all tasks, against the tuned cosine of each."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from benchmark import measures
from benchmark.measures import Results, Runs
from methods import peers, rules
from methods.schedules import SCHEDULES

LEARNERS = ("bandit", "q_learning", "actor_critic", *rules.LEARNED)


def is_decade(runs: Runs) -> np.ndarray:
    """Which base rates are whole decades: (r,), bool."""
    exponents = np.log10(runs.rates)
    return np.abs(exponents - exponents.round()) < 1e-6


def family(method: str) -> str:
    """schedule, peer, rule, learner, ablation or autotune."""
    bare = method.removeprefix("cosine+")
    if method in rules.AUTOTUNE:
        return "autotune"
    if method in SCHEDULES:
        return "schedule"
    if method in peers.PEERS:
        return "peer"
    if bare in ("constant", "random"):
        return "ablation"
    return "learner" if bare in LEARNERS else "rule"


class Summary(NamedTuple):
    """A method over all tasks; what the headline table shows."""

    method: str
    tuned: tuple[float, float, float]  # mean gain over the tuned cosine, and interval
    worst: float  # of tasks and decades, gain over the tuned cosine
    median: float
    time: float  # geometric mean, inf with a miss
    missed: int
    times: int
    score: float
    score_any_rate: float
    sensitivity: float
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


def improvements(runs: Runs, cosine: Runs) -> np.ndarray:
    """(r, s): test metric against the tuned cosine of the same seed."""
    if runs.test.shape[1] != cosine.test.shape[1]:
        raise ValueError(
            f"seeds must be paired, but a method has {runs.test.shape[1]} and the "
            f"cosine {cosine.test.shape[1]}; run both with the same --seeds"
        )
    reference = measures.final_test(cosine)[measures.tuned(cosine)]
    return measures.improvement(
        measures.final_test(runs), reference, runs.facts.is_accuracy
    )


def shares(
    runs: Runs,
    cosine: Runs,
    final: Callable[[Runs], np.ndarray] = measures.final_test,
) -> np.ndarray:
    """(r, s): the same as a percentage of all that the tuned cosine improved.

    Points of accuracy and percent of a loss, of which a bad run can lose any number,
    are made comparable, so that tasks can be pooled: -100 is no progress at all.
    """
    reference = final(cosine)[measures.tuned(cosine)]
    improved = reference.mean() - cosine.initial.mean()  # negative for a loss
    return 100.0 * (final(runs) - reference) / improved


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


def summaries(results: Results, optimizer: str = "adam") -> list[Summary]:
    """All methods, the best mean gain of the tuned rate first."""
    tasks, names = complete(results, optimizer)
    cosines = of_method(results, optimizer, "cosine")
    found, tuned_times, any_times = [], [], []
    for name in names:
        mine = of_method(results, optimizer, name)
        gain, time, sensitivity = [], [], []
        for task in tasks:
            runs, cosine = mine[task], cosines[task]
            gain.append(shares(runs, cosine))
            time.append(all_times(runs, cosine))
            losses = measures.final_validation(runs)[is_decade(runs)].mean(1)
            start = float(runs.initial.mean())
            if runs.facts.is_accuracy:
                losses, start = 100 - losses, 100 - start
            sensitivity.append(measures.sensitivity(losses, start))
        best = [measures.tuned(mine[task]) for task in tasks]
        decades = [
            g[is_decade(mine[task])].mean(1)
            for g, task in zip(gain, tasks, strict=True)
        ]
        at_best = np.concatenate([t[i] for t, i in zip(time, best, strict=True)])
        tuned_times.append([np.median(t[i]) for t, i in zip(time, best, strict=True)])
        any_times.append(np.concatenate([np.median(t, 1) for t in time]))
        found.append(
            Summary(
                method=name,
                tuned=measures.bootstrap(
                    [g[i] for g, i in zip(gain, best, strict=True)]
                ),
                worst=min(d.min() for d in decades),
                median=float(np.median(np.concatenate(decades))),
                time=measures.geometric_mean(at_best),
                missed=int(np.isinf(at_best).sum()),
                times=at_best.size,
                score=0.0,
                score_any_rate=0.0,
                sensitivity=float(np.mean(sensitivity)),
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
