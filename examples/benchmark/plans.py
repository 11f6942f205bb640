"""What to run: the lists that were fixed before any result, and a quick one."""

from typing import NamedTuple

from benchmark.tasks import TASKS
from common import methods
from optax_adaptive import controllers

DECADES = tuple(10.0**k for k in range(-7, 2))
# The same grid for every method: the decades, and between those where the good rates
# of Adam lie, three half decades.
BASE_RATES = tuple(sorted((*DECADES, *(10.0 ** (k + 0.5) for k in (-4, -3, -2)))))

# Learners are meant to correct what the chain does already, so they run around the
# cosine too, as does the ablation that acts at random.
LEARNERS = ("bandit", "q_learning", "actor_critic")
ANCHORED = tuple(
    f"cosine+{name}"
    for name in ("random", *LEARNERS)
    if name == "random" or name in controllers.REGISTRY
)
METHODS = (*methods.NAMES, *ANCHORED)


class Plan(NamedTuple):
    """All combinations are run, method by method: so the time left is a fair guess."""

    tasks: tuple[str, ...]
    optimizers: tuple[str, ...]
    methods: tuple[str, ...]
    base_rates: tuple[float, ...]
    seeds: int


PLANS = {
    "standard": Plan(tuple(TASKS), ("adam",), METHODS, BASE_RATES, seeds=3),
    "quick": Plan(
        ("digits", "transformer", "demand"),
        ("adam",),
        METHODS,
        (1e-6, 1e-3, 1e-2, 1e-1, 10.0),
        seeds=1,
    ),
    # Does the base rate matter to other optimizers as well?
    "robustness": Plan(
        ("digits", "transformer", "demand"),
        ("adamw", "sgd", "momentum", "lion"),
        ("cosine", *methods.AUTOTUNE, "range_test_trend", "mechanize"),
        BASE_RATES,
        seeds=3,
    ),
}
