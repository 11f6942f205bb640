"""What to run: the lists that were fixed before any result, and a quick one."""

from typing import NamedTuple

from benchmark.tasks import TASKS
from methods import registry

DECADES = tuple(10.0**k for k in range(-7, 2))
# The same grid for every method: the decades, fewer where nearly all fail, and between
# those where the good rates of Adam lie, two half decades. At 1, methods that have no
# rate of their own are meant to be run.
BASE_RATES = tuple(10.0**k for k in (-7, -4, -3, -2.5, -2, -1.5, -1, 0, 1))
# For robustness the cosine is tuned more finely: thirds of a decade over two and a half
# decades, about what is usual for each optimizer.
COSINE_RATES = {
    optimizer: tuple(10.0 ** (k / 3) for k in range(first, first + 8))
    for optimizer, first in {
        "adam": -9,
        "adamw": -9,
        "sgd": -4,
        "momentum": -7,
        "lion": -13,
        "adafactor": -6,
        "muon": -7,
    }.items()
}


def as_written(rate: float) -> float:
    """A base rate as it is written to the results."""
    return float(f"{rate:.3g}")


class Plan(NamedTuple):
    """All combinations are run, method by method: so the time left is a fair guess."""

    tasks: tuple[str, ...]
    optimizers: tuple[str, ...]
    methods: tuple[str, ...]
    base_rates: tuple[float, ...]
    seeds: int
    cosine_rates: dict[str, tuple[float, ...]] = {}  # by optimizer, where they differ
    keeps: tuple[str, ...] = ()  # of training.FIELDS, beside the final metrics

    def rates(self, method: str, optimizer: str) -> tuple[float, ...]:
        """The base rates of a method, as they are written to the results."""
        rates = self.base_rates
        if method == "cosine":
            rates = self.cosine_rates.get(optimizer, rates)
        return tuple(map(as_written, rates))

    def kept(self, method: str) -> tuple[str, ...]:
        """What the rows of a method keep."""
        # Where the cosine has a grid of its own it is what others are compared with, by
        # what it ends with.
        is_reference = method == "cosine" and bool(self.cosine_rates)
        return () if is_reference else self.keeps


# For times to a target, and of autotune's search.
SEARCH = ("rollbacks", "search_steps")
TIMES = ("best", *SEARCH)
# And whole curves, of learning rates too, generalisation and stability.
WHOLE = ("validation", *SEARCH, "learning_rate", "late_loss_std", "train")
STANDARD_TASKS = tuple(task for task in TASKS if task != "short")  # digits once

PLANS = {
    "standard": Plan(
        STANDARD_TASKS, ("adam",), registry.NAMES, BASE_RATES, seeds=3, keeps=WHOLE
    ),
    # A part of the standard plan, so that both rank the same runs.
    "quick": Plan(
        ("digits", "transformer", "demand"),
        ("adam",),
        registry.NAMES,
        (1e-7, 1e-3, 1e-2, 1.0, 10.0),
        seeds=1,
        keeps=WHOLE,
    ),
}
