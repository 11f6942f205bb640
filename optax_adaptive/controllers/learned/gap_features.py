"""What noise costs against what is still won, as two features of a training.

The loss of the newest parameters above that of their average grows with the rate; its
fall over a constant fraction of the time says what is still won. At the best rate the
two are about equal, whatever the task (docs/autotune_experiments.md), and neither has a
unit once one is divided by the other.
"""

from typing import NamedTuple

import jax.numpy as jnp

from optax_adaptive._controller import Array, Observation

NAMES = (
    "cost_above",  # log10 of the cost over the fall, where that is above 1
    "cost_below",  # and where it is below
)
SIZE = len(NAMES)

# Weights of the newest window in the averages, for the part that it makes up of the
# time since the last return. So they lie at about a half and three quarters of it.
_OLDER, _NEWER = 1.28, 3.2
_FEWEST = 12  # windows before it is judged
_Z = 2.0  # standard errors by which a fall may be larger than it seems
_LIMIT = 1.5  # decades
_TINY = 1e-30


class CostMemory(NamedTuple):
    """Averages since the parameters last went back."""

    windows: Array  # shape=(), dtype=int32
    older: Array  # shape=(), dtype=float32: slow average of the loss
    newer: Array  # shape=(), dtype=float32: faster one
    costs: Array  # shape=(), dtype=int32: windows in which it was measured
    cost: Array  # shape=(), dtype=float32: average of it
    part: Array  # shape=(), dtype=float32: of the time, that of the newest window


def first_memory() -> CostMemory:
    """The memory before the first window, and after each return."""
    zero, none = jnp.zeros((), jnp.float32), jnp.zeros((), jnp.int32)
    return CostMemory(
        windows=none, older=zero, newer=zero, costs=none, cost=zero, part=zero
    )


def remember(
    memory: CostMemory, observation: Observation, part: float | None = None
) -> CostMemory:
    """Takes in a window; one that blew up says nothing.

    Args:
      memory: The memory before this window.
      observation: The window.
      part: What it makes up of the time since the last return. None if all windows are
        alike: one over their number.

    Returns:
      The new memory.
    """
    is_finite = jnp.isfinite(observation.value)
    is_measured = is_finite & observation.has_averaging_gap
    windows = memory.windows + is_finite.astype(jnp.int32)
    costs = memory.costs + is_measured.astype(jnp.int32)
    value = jnp.where(is_finite, observation.value, 0.0)
    share = one_over(windows) if part is None else jnp.array(part, jnp.float32)

    def follow(average, entry, count, scale, is_new):
        # Never below that of a plain mean.
        weight = jnp.minimum(jnp.maximum(one_over(count), scale * share), 1.0)
        return average + jnp.where(is_new, weight, 0.0) * (entry - average)

    return CostMemory(
        windows=windows,
        older=follow(memory.older, value, windows, _OLDER, is_finite),
        newer=follow(memory.newer, value, windows, _NEWER, is_finite),
        costs=costs,
        cost=follow(memory.cost, observation.averaging_gap, costs, _NEWER, is_measured),
        part=share,
    )


def features(memory: CostMemory, noise: Array) -> Array:
    """The features, both 0 where there is too little to judge by.

    Args:
      memory: The memory.
      noise: float32 standard error of a window's mean.

    Returns:
      float32 of shape ``(SIZE,)``, in the order of ``NAMES``, in [-1.5, 1.5].
    """
    # Of the difference of the two averages, were they independent, and the weights
    # constant: for those that fall as one over the number of windows, an eighth less.
    scales = jnp.array([_OLDER, _NEWER], jnp.float32)
    weights = jnp.minimum(scales * memory.part, 1.0)
    error = jnp.sqrt(jnp.sum(weights / (2.0 - weights))) * noise
    fall = memory.older - memory.newer + _Z * error
    ratio = memory.cost / jnp.maximum(fall, _TINY)
    logs = jnp.log10(jnp.maximum(ratio, _TINY))
    is_known = jnp.minimum(memory.windows, memory.costs) >= _FEWEST
    logs = jnp.where(is_known, jnp.clip(logs, -_LIMIT, _LIMIT), 0.0)
    return jnp.stack([jnp.maximum(logs, 0.0), jnp.minimum(logs, 0.0)])


def one_over(count: Array) -> Array:
    """Weight of the newest of ``count`` in their mean, float32; 1 of none."""
    return 1.0 / jnp.maximum(count, 1).astype(jnp.float32)
