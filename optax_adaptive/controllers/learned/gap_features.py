"""The averaging gap over the decrease of the loss, as two features of a training.

The averaging gap grows with the learning rate. At the best learning rate it is about
equal to the decrease of the loss over a constant fraction of the elapsed time, whatever
the task (docs/research/autotune_experiments.md), and their ratio has no unit.
"""

from typing import NamedTuple

import jax.numpy as jnp

from optax_adaptive._controller import Array, Observation
from optax_adaptive.controllers.learned.ema import Ema, add_as_mean, first_ema, one_over

NAMES = (
    "gap_above",  # log10 of the gap over the decrease, where that is above 1
    "gap_below",  # and where it is below
)
SIZE = len(NAMES)

# Weights of the newest window in the averages, over the fraction that it covers of the
# time since the last blow-up: the averages centre at a half and three quarters of it.
_OLDER, _NEWER = 1.28, 3.2
_FEWEST = 12  # windows before the features differ from 0
_Z = 2.0  # standard errors by which a decrease may be larger than it seems
_LIMIT = 1.5  # decades
_TINY = 1e-30


class GapMemory(NamedTuple):
    """Averages since the last blow-up."""

    older: Ema  # slow average of the loss
    newer: Ema  # faster one
    gap: Ema  # average of the averaging gap, of windows in which it was measured
    part: Array  # shape=(), dtype=float32: share of the last window in the elapsed time


def first_memory() -> GapMemory:
    """The memory before the first window, and after each blow-up."""
    part = jnp.zeros((), jnp.float32)
    return GapMemory(first_ema(), first_ema(), first_ema(), part)


def remember(
    memory: GapMemory, observation: Observation, part: float | None = None
) -> GapMemory:
    """Adds a window; one that blew up changes nothing.

    Args:
      memory: The memory before this window.
      observation: The window.
      part: The fraction of the time since the last blow-up that it is taken to cover.
        (A rule passes its usual one; the first windows of a run cover more.) None if
        all windows are of one size: one over their number.

    Returns:
      The new memory.
    """
    is_finite = jnp.isfinite(observation.value)
    is_measured = is_finite & observation.has_averaging_gap
    value = jnp.where(is_finite, observation.value, 0.0)
    if part is None:
        share = one_over(memory.older.count + is_finite.astype(jnp.int32))
    else:
        share = jnp.array(part, jnp.float32)
    gap = observation.averaging_gap
    return GapMemory(
        older=add_as_mean(memory.older, value, _OLDER * share, is_finite),
        newer=add_as_mean(memory.newer, value, _NEWER * share, is_finite),
        gap=add_as_mean(memory.gap, gap, _NEWER * share, is_measured),
        part=share,
    )


def features(memory: GapMemory, noise: Array) -> Array:
    """The features, both 0 where there are too few windows.

    Args:
      memory: The memory.
      noise: float32 standard error of a window's mean.

    Returns:
      float32 of shape ``(SIZE,)``, in the order of ``NAMES``, in [-1.5, 1.5].
    """
    # The error of the difference of the two averages, if they were independent and the
    # weights constant: for weights that decrease as one over the windows, an eighth
    # less.
    scales = jnp.array([_OLDER, _NEWER], jnp.float32)
    weights = jnp.minimum(scales * memory.part, 1.0)
    error = jnp.sqrt(jnp.sum(weights / (2.0 - weights))) * noise
    decrease = memory.older.mean - memory.newer.mean + _Z * error
    ratio = memory.gap.mean / jnp.maximum(decrease, _TINY)
    logs = jnp.log10(jnp.maximum(ratio, _TINY))
    is_enough = jnp.minimum(memory.older.count, memory.gap.count) >= _FEWEST
    logs = jnp.where(is_enough, jnp.clip(logs, -_LIMIT, _LIMIT), 0.0)
    return jnp.stack([jnp.maximum(logs, 0.0), jnp.minimum(logs, 0.0)])
