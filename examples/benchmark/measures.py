"""What is measured, as pure functions of arrays; README.md says what each is for.

Axes are named by letters: r base rates, s seeds, c checkpoints, t tasks, m methods.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

Array = np.ndarray


class Facts(NamedTuple):
    """What the report must know of a task."""

    steps: int
    steps_per_epoch: int
    is_accuracy: bool
    unit: str


class Runs(NamedTuple):
    """All runs of a task, optimizer and method. nan is what was not finite."""

    facts: Facts
    rates: Array  # (r,)
    failed: Array  # (r, s), bool
    initial: Array  # (r, s), validation metric before the first step
    validation: Array  # (r, s, c), or the last alone where no time is measured
    best: Array  # (r, s, c), of validation so far, or validation where that is whole
    late_loss_std: Array  # (r, s)
    train: Array  # (r, s)
    test: Array  # (r, s)
    rollbacks: Array  # (r, s), of autotune
    search_steps: Array  # (r, s), the same; nan in rows from before it was recorded


Results = dict[tuple[str, str, str], Runs]  # by task, optimizer, method
Bound = Callable[[Runs, Array], Array]  # capped or uncapped


def gather(lines: list[dict[str, Any]]) -> Results:
    """Arrays from the lines of a results file; groups that lack a run are left out."""
    facts, groups = {}, {}
    for line in lines:
        if "header" in line:
            config = line["header"]["config"]
            facts[config["task"]] = Facts(*(config[name] for name in Facts._fields))
        else:
            name = (line["task"], line["optimizer"], line["method"])
            if "validation" in line:
                line = {"best": line["validation"]} | line
            groups.setdefault(name, {})[line["base_rate"], line["seed"]] = line
    whole = [row for rows in groups.values() for row in rows.values() if "test" in row]
    begin = {row["task"]: row["initial"] for row in whole}  # for rows of an exception
    results = {}
    for name, rows in groups.items():
        rates, seeds = (sorted(set(part)) for part in zip(*rows, strict=True))
        if len(rows) < len(rates) * len(seeds) or name[0] not in facts:
            continue  # a task without facts is one of which no run ended
        grid = [[rows[rate, seed] for seed in seeds] for rate in rates]

        def stack(field: str, missing: Any, grid=grid) -> Array:
            values = [[row.get(field, missing) for row in line] for line in grid]
            return np.array(values, float)  # None, for null, becomes nan

        results[name] = Runs(
            facts=facts[name[0]],
            rates=np.array(rates),
            failed=np.array(
                [[row["failed"] is not None for row in line] for line in grid]
            ),
            initial=stack("initial", begin.get(name[0])),
            validation=stack("validation", missing_curve(rows, "validation", whole)),
            best=stack("best", missing_curve(rows, "best", whole)),
            late_loss_std=stack("late_loss_std", None),
            train=stack("train", None),
            test=stack("test", None),
            rollbacks=stack("rollbacks", None),
            search_steps=stack("search_steps", None),
        )
    return results


def missing_curve(
    rows: dict[Any, dict[str, Any]], field: str, whole: list[dict[str, Any]]
) -> list[None]:
    """For a run of ``rows`` that ended with an exception, or that keeps no curve."""
    lengths = [len(row[field]) for row in rows.values() if field in row]
    lengths = lengths or [len(row[field]) for row in whole if field in row]
    return [None] * max(lengths, default=1)


def first_seeds(runs: Runs, count: int) -> Runs:
    """The runs of the first ``count`` seeds."""
    return Runs(runs.facts, runs.rates, *(array[:, :count] for array in runs[2:]))


def at_rates(runs: Runs, rates: Array) -> Runs:
    """The runs at these base rates, of which it has all."""
    return Runs(runs.facts, *(array[np.isin(runs.rates, rates)] for array in runs[1:]))


def capped(runs: Runs, metric: Array) -> Array:
    """A final metric (r, s), where nothing is worse than before the first step."""
    bound = np.fmax if runs.facts.is_accuracy else np.fmin  # they pass over nan
    return bound(np.where(runs.failed, np.nan, metric), runs.initial)


def uncapped(runs: Runs, metric: Array) -> Array:
    """The same as it is, (r, s); infinitely bad where a run did not end finite."""
    is_lost = runs.failed | ~np.isfinite(metric)
    return np.where(is_lost, -np.inf if runs.facts.is_accuracy else np.inf, metric)


def final_validation(runs: Runs, bound: Bound = capped) -> Array:
    """(r, s)."""
    return bound(runs, runs.validation[..., -1])


def final_test(runs: Runs, bound: Bound = capped) -> Array:
    """(r, s)."""
    return bound(runs, runs.test)


def tuned(runs: Runs) -> int:
    """Index of the base rate with the best final validation metric, meaned over s."""
    means = final_validation(runs).mean(1)
    return int(means.argmax() if runs.facts.is_accuracy else means.argmin())


def improvement(metric: Any, reference: Any, is_accuracy: bool) -> Any:
    """How much better than a reference: points of accuracy, or percent of the loss."""
    if is_accuracy:
        return metric - reference
    return 100.0 * (reference - metric) / np.abs(reference)


def target(cosine: Runs) -> float:
    """What the tuned cosine's worst seed reaches at its end, on validation."""
    finals = final_validation(cosine)[tuned(cosine)]
    return float(finals.min() if cosine.facts.is_accuracy else finals.max())


def time_to(validation: Array, target: float, is_accuracy: bool) -> Array:
    """Fraction of the run until (..., c) is as good as the target; inf where never."""
    reached = validation >= target if is_accuracy else validation <= target
    first = (reached.argmax(-1) + 1) / validation.shape[-1]
    return np.where(reached.any(-1), first, np.inf)


def geometric_mean(times: Array) -> float:
    """Of positive times; inf as soon as one is."""
    return float(np.exp(np.mean(np.log(times))))


def ratios(times: Array) -> Array:
    """(m, w) times by method and workload, over the fastest; inf where all missed."""
    best = times.min(0)
    return np.where(
        np.isfinite(times), times / np.where(best < np.inf, best, 1), np.inf
    )


def score(times: Array) -> Array:
    """(m,): a third of the profile's integral from 1 to 4, which is exact like this."""
    return np.clip(4.0 - ratios(times), 0.0, None).mean(1) / 3.0


def sensitivity(losses: Array, initial: float, is_capped: bool = True) -> float:
    """E[min(l, l0) - l*] over base rates (r,), as percent of l0 - l*.

    Without the cap it is E[l - l*], of the same.
    """
    best = losses.min()
    if initial <= best:
        return 100.0  # it never got better than it began
    counted = np.fmin(losses, initial) if is_capped else losses
    return float(100 * np.mean(counted - best) / (initial - best))


def standard_deviation(values: Array) -> float:
    """Of a population of which these are a sample; 0 of one value."""
    return float(values.std(ddof=min(1, len(values) - 1)))


def mean_interval(gains: list[Array]) -> tuple[float, float, float]:
    """Mean over tasks of the mean over seeds, and its 95% interval over seeds.

    Args:
      gains: For each task, paired differences by seed.

    Returns:
      Mean, lower and upper end: by Student's t, with the degrees of freedom of
      Satterthwaite (1946), since each task has a variance of its own.
    """
    mean = float(np.mean([values.mean() for values in gains]))
    counts = np.array([len(values) for values in gains])
    parts = np.array([standard_deviation(values) ** 2 for values in gains]) / counts
    if not parts.any():
        return mean, mean, mean
    freedom = parts.sum() ** 2 / np.sum(parts**2 / np.maximum(counts - 1, 1))
    half = stats.t.ppf(0.975, freedom) * np.sqrt(parts.sum()) / len(gains)
    return mean, mean - float(half), mean + float(half)


def interval(values: Array) -> str:
    """Mean and 95% t-interval of paired differences."""
    mean, _, high = mean_interval([values])
    return f"{mean:+.2f} ± {high - mean:.2f}"


def gap(runs: Runs) -> Array:
    """(r, s): how much worse the metric is on validation than on training data."""
    difference = runs.train - runs.validation[..., -1]
    return difference if runs.facts.is_accuracy else -difference


def is_stuck(runs: Runs) -> Array:
    """(r, s): finite, and yet no better at the end than before the first step."""
    return ~runs.failed & (final_validation(runs) == runs.initial)
