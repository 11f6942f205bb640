"""What noise costs against what is still won, as two features of a training.

The loss of the newest parameters above that of their average grows with the rate; its
fall over a constant fraction of the time says what is still won. At the best rate the
two are about equal, whatever the task (docs/autotune.md), and neither has a unit once
one is divided by the other.
"""

import math
from typing import NamedTuple

import jax.numpy as jnp

from optax_adaptive._controller import Array, Observation

NAMES = (
    "cost_above",  # log10 of the cost over the fall, where that is above 1
    "cost_below",  # and where it is below
)
SIZE = len(NAMES)

# Weights of the newest period in the averages. With one period in 32 parts of the
# elapsed time the two lie at about a half and three quarters of it.
_OLDER, _NEWER = 0.04, 0.1
_FEWEST = 12  # periods before it is judged
_Z = 2.0  # standard errors by which a fall may be larger than it seems
_LIMIT = 1.5  # decades
_TINY = 1e-30


class CostMemory(NamedTuple):
    """Averages since the parameters last went back."""

    periods: Array  # shape=(), dtype=int32
    older: Array  # shape=(), dtype=float32: slow average of the loss
    newer: Array  # shape=(), dtype=float32: faster one
    costs: Array  # shape=(), dtype=int32: periods in which it was measured
    cost: Array  # shape=(), dtype=float32: average of it


def first_memory() -> CostMemory:
    """The memory before the first period, and after each return."""
    zero, none = jnp.zeros((), jnp.float32), jnp.zeros((), jnp.int32)
    return CostMemory(periods=none, older=zero, newer=zero, costs=none, cost=zero)


def remember(memory: CostMemory, observation: Observation) -> CostMemory:
    """Takes in a window; one that blew up says nothing."""
    is_finite = jnp.isfinite(observation.value)
    is_measured = is_finite & observation.has_noise_cost
    periods = memory.periods + is_finite.astype(jnp.int32)
    costs = memory.costs + is_measured.astype(jnp.int32)
    value = jnp.where(is_finite, observation.value, 0.0)

    def follow(average, entry, weight, is_new):
        return average + jnp.where(is_new, weight, 0.0) * (entry - average)

    return CostMemory(
        periods=periods,
        older=follow(memory.older, value, _weight(periods, _OLDER), is_finite),
        newer=follow(memory.newer, value, _weight(periods, _NEWER), is_finite),
        costs=costs,
        cost=follow(
            *(memory.cost, observation.noise_cost),
            *(_weight(costs, _NEWER), is_measured),
        ),
    )


def features(memory: CostMemory, noise: Array) -> Array:
    """The features, both 0 where there is too little to judge by.

    Args:
      memory: The memory.
      noise: float32 standard error of a period's mean.

    Returns:
      float32 of shape ``(SIZE,)``, in the order of ``NAMES``, in [-1.5, 1.5].
    """
    # Of the difference of the two averages, were they independent.
    variance = sum(w / (2.0 - w) for w in (_OLDER, _NEWER))
    fall = memory.older - memory.newer + _Z * math.sqrt(variance) * noise
    ratio = memory.cost / jnp.maximum(fall, _TINY)
    logs = jnp.log10(jnp.maximum(ratio, _TINY))
    is_known = jnp.minimum(memory.periods, memory.costs) >= _FEWEST
    logs = jnp.where(is_known, jnp.clip(logs, -_LIMIT, _LIMIT), 0.0)
    return jnp.stack([jnp.maximum(logs, 0.0), jnp.minimum(logs, 0.0)])


def _weight(count: Array, least: float) -> Array:
    """Of the newest of so many entries: a plain mean at first."""
    return jnp.maximum(1.0 / jnp.maximum(count, 1).astype(jnp.float32), least)
