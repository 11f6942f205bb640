"""The measures of an entry, by the rules of plan.py."""

from typing import NamedTuple

import numpy as np

from experiment import plan as plans
from experiment.plan import Entry, Plan, Row, Task

Array = np.ndarray
REFERENCE = "cosine_tuned"  # with which all entries are compared
NOTHING = np.zeros(0)


class Outcome(NamedTuple):
    """What the runs of an entry on a task gave, as far as they are made.

    Arrays have a value for each seed that is made, in their order; they are empty where
    a run failed, which is worse than all others: no mean tells that.
    """

    rate: float | None  # None while it is being tuned
    rows: dict[int, Row]  # by seed
    failed: int
    validation: Array = NOTHING  # the last one
    test: Array = NOTHING
    gain: Array = NOTHING  # on test, over the reference at the same seed
    epochs: Array = NOTHING  # to the threshold; inf where a run never reaches it
    gap: Array = NOTHING
    variability: Array = NOTHING


def rows_of(
    plan: Plan, rows: list[Row], task: str, entry: Entry
) -> tuple[float | None, dict[int, Row]]:
    """The learning rate of an entry, and its rows by seed."""
    rate = entry.rate
    if rate is None:
        rate = plans.chosen_rate(plan, rows, task, entry.method)
    found = {plans.key(row): row for row in rows}
    runs = {seed: plans.Run(task, entry.method, rate, seed) for seed in plan.seeds}
    return rate, {seed: found[run] for seed, run in runs.items() if run in found}


def better(task: Task) -> float:
    """1 where more of the metric is better, else -1."""
    return 1.0 if task.is_accuracy else -1.0


def threshold(task: Task, reference: dict[int, Row]) -> float | None:
    """The reference's last validation metric less its standard error.

    Args:
      task: Whose metric it is.
      reference: Rows by seed.

    Returns:
      None where one of them failed, or with fewer than two of them.
    """
    if len(reference) < 2 or any(row["failed"] for row in reference.values()):
        return None
    last = np.array([row["validation"][-1] for row in reference.values()])
    error = last.std(ddof=1) / np.sqrt(len(last))
    return float(last.mean() - better(task) * error)


def epochs_to(row: Row, target: float, task: Task) -> float:
    """Epochs until the first validation that is at least as good as the target."""
    curve = np.array(row["validation"], float)  # nan where it was not finite
    reached = np.flatnonzero(better(task) * (curve - target) >= 0)
    if not len(reached):
        return np.inf
    epochs = row["steps"] / row["steps_per_epoch"]
    return float((reached[0] + 1) * epochs / len(curve))


def outcome(plan: Plan, rows: list[Row], task_name: str, entry: Entry) -> Outcome:
    """The measures of an entry on a task."""
    task = plan.tasks[task_name]
    rate, mine = rows_of(plan, rows, task_name, entry)
    _, reference = rows_of(plan, rows, task_name, plan.entries[REFERENCE])
    failed = sum(row["failed"] is not None for row in mine.values())
    if failed or not mine:
        return Outcome(rate, mine, failed)
    sign, target = better(task), threshold(task, reference)
    paired = [
        sign * (row["test"] - reference[seed]["test"])
        for seed, row in mine.items()
        if seed in reference and not reference[seed]["failed"]
    ]
    last = np.array([row["validation"][-1] for row in mine.values()])
    fit = np.array([row["fit"] for row in mine.values()])
    epochs = []
    if target is not None:
        epochs = [epochs_to(row, target, task) for row in mine.values()]
    return Outcome(
        rate,
        mine,
        failed,
        validation=last,
        test=np.array([row["test"] for row in mine.values()]),
        gain=np.array(paired),
        epochs=np.array(epochs),
        gap=sign * (fit - last),
        variability=np.array([row["late_loss_std"] for row in mine.values()]),
    )


def outcomes(plan: Plan, rows: list[Row]) -> dict[str, dict[str, Outcome]]:
    """By task and entry."""
    return {
        task: {
            name: outcome(plan, rows, task, entry)
            for name, entry in plan.entries.items()
        }
        for task in plan.tasks
    }


def made(plan: Plan, by_entry: dict[str, Outcome]) -> tuple[int, int]:
    """How many results of a task there are, and how many there will be."""
    there = sum(len(found.rows) for found in by_entry.values())
    return there, len(plan.entries) * len(plan.seeds)


def is_complete(plan: Plan, by_entry: dict[str, Outcome]) -> bool:
    """Whether each entry of a task has a row for each seed."""
    there, wanted = made(plan, by_entry)
    return there == wanted


def best(task: Task, by_entry: dict[str, Outcome], names: tuple, by: str) -> str | None:
    """The entry with the best mean of ``by``: test or validation; None without any."""
    values = {name: getattr(by_entry[name], by) for name in names if name in by_entry}
    means = {name: x.mean() for name, x in values.items() if x.size}
    return max(means, key=lambda name: better(task) * means[name], default=None)
