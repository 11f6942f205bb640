"""The memory of the state features: averages and extremes of the loss so far."""

import math
from typing import NamedTuple

import jax.numpy as jnp

from optax_adaptive._controller import Array, Observation
from optax_adaptive.controllers.learned import gap_features
from optax_adaptive.controllers.learned.ema import Ema, add, first_ema
from optax_adaptive.state.trees import saturating_add, select

_FAST, _SLOW = 0.4, 0.1  # weights of the newest window in the averages
_NOISE = 0.2  # and in the average of the standard errors
_ROUNDING = 1e-6  # of a float32 mean, relative to its size
_OUTLIER = 4.0  # times what is usual, to which larger windows are cut
DESCENT = 4.0  # combined standard errors that no noise explains


class FeatureMemory(NamedTuple):
    """What the features need beyond the newest windows."""

    windows: Array  # shape=(), dtype=int32: finite ones so far
    since_best: Array  # shape=(), dtype=int32: finite ones since the best
    first_value: Array  # shape=(), dtype=float32: 0 before the first
    last_value: Array  # shape=(), dtype=float32: of the newest finite window
    change: Array  # shape=(), dtype=float32: to the newest window; 0 at a blow-up
    best_value: Array  # shape=(), dtype=float32
    fast: Ema  # of the values, over about 2 windows
    slow: Ema  # and over about 10
    noise: Array  # shape=(), dtype=float32: average standard error of a window
    has_descended: Array  # shape=(), dtype=bool
    progress_log_scale: Array  # shape=(), dtype=float32: mean, weighted by improvement
    has_blown_up: Array  # shape=(), dtype=bool
    blow_up_log_scale: Array  # shape=(), dtype=float32: the lowest that blew up
    is_blown_up: Array  # shape=(), dtype=bool: the newest window did
    previous_action: Array  # shape=(), dtype=float32: set by the rule, in [-1, 1]
    gap_memory: gap_features.GapMemory


class Window(NamedTuple):
    """A window, its outliers bounded."""

    value: Array  # shape=(), dtype=float32: mean; the last one if it is not finite
    error: Array  # shape=(), dtype=float32: standard error of that
    is_finite: Array  # shape=(), dtype=bool
    is_first: Array  # shape=(), dtype=bool: is it the first finite one?
    is_early: Array  # shape=(), dtype=bool: are there fewer than two before it?
    is_best: Array  # shape=(), dtype=bool: is it the lowest so far?


def first_memory() -> FeatureMemory:
    """The memory before the first window."""
    zero, none = jnp.zeros((), jnp.float32), jnp.zeros((), jnp.int32)
    no = jnp.zeros((), jnp.bool_)
    return FeatureMemory(
        windows=none,
        since_best=none,
        first_value=zero,
        last_value=zero,
        change=zero,
        best_value=zero,
        fast=first_ema(),
        slow=first_ema(),
        noise=zero,
        has_descended=no,
        progress_log_scale=zero,
        has_blown_up=no,
        blow_up_log_scale=zero,
        is_blown_up=no,
        previous_action=zero,
        gap_memory=gap_features.first_memory(),
    )


def after_search(
    windows: Array, first_value: Array, noise: Array, too_high: Array
) -> FeatureMemory:
    """The memory when a search hands over.

    Args:
      windows: int32 number of windows that the search counts as, 0 if it has measured
        nothing.
      first_value: float32 loss of the first parameters.
      noise: float32 standard error of a window's mean.
      too_high: float32 log scale that counts as one that blew up.

    Returns:
      The memory.
    """
    average = Ema(first_value, jnp.minimum(windows, 1))
    return first_memory()._replace(
        windows=windows,
        first_value=first_value,
        last_value=first_value,
        best_value=first_value,
        fast=average,
        slow=average,
        noise=noise,
        has_blown_up=jnp.ones((), jnp.bool_),
        blow_up_log_scale=too_high,
    )


def remember(
    memory: FeatureMemory, observation: Observation, part: float | None = None
) -> FeatureMemory:
    """Adds the newest window to the memory.

    Args:
      memory: The memory before this window.
      observation: The window. A ``value`` of inf is a blow-up, at the scale in force.
      part: The fraction of the elapsed time that it is taken to cover; None if all
        windows are of one size.

    Returns:
      The new memory, still with the old ``previous_action``.
    """
    window = _bounded(memory, observation)
    value, is_finite, log_scale = window.value, window.is_finite, observation.log_scale
    since_best = saturating_add(memory.since_best, is_finite)
    new = memory._replace(
        windows=saturating_add(memory.windows, is_finite),
        since_best=jnp.where(window.is_best, 0, since_best),
        first_value=jnp.where(window.is_first, value, memory.first_value),
        last_value=value,
        change=jnp.where(window.is_first, 0.0, value - memory.last_value),
        best_value=jnp.where(window.is_best, value, memory.best_value),
        fast=_average(memory.fast, window, memory.is_blown_up, _FAST),
        slow=_average(memory.slow, window, memory.is_blown_up, _SLOW),
        noise=_noise(memory, window),
        has_blown_up=memory.has_blown_up | ~is_finite,
        blow_up_log_scale=_blow_up_log_scale(memory, window, log_scale),
        is_blown_up=~is_finite,
        gap_memory=_gap_memory(memory, window, observation, part),
    )
    return new._replace(
        has_descended=_has_descended(new, window),
        progress_log_scale=_progress_log_scale(memory, new, window, log_scale),
    )


def _bounded(memory: FeatureMemory, observation: Observation) -> Window:
    """The window; one outlier must not hide all that follow."""
    is_finite = jnp.isfinite(observation.value)
    # A window of one value has no error until there is a second one to compare with.
    is_early = memory.windows < 2
    error = jnp.where(is_finite, observation.standard_error[-1], memory.noise)
    error = jnp.where(is_early, error, jnp.minimum(error, _OUTLIER * memory.noise))
    unit = memory.first_value - memory.best_value + memory.noise
    highest = memory.first_value + _OUTLIER * unit
    value = jnp.where(is_finite, observation.value, memory.last_value)
    value = jnp.where(is_early, value, jnp.minimum(value, highest))
    is_first = is_finite & (memory.windows == 0)
    return Window(
        value=value,
        error=jnp.maximum(error, _ROUNDING * jnp.abs(value)),
        is_finite=is_finite,
        is_first=is_first,
        is_early=is_early,
        is_best=is_first | (is_finite & (value < memory.best_value)),
    )


def _average(ema: Ema, window: Window, is_blown_up: Array, weight: float) -> Ema:
    """The average of the values; it begins anew after a blow-up, from other params."""
    ema = select(window.is_finite & is_blown_up, first_ema(), ema)
    return add(ema, window.value, weight, window.is_finite)


def _noise(memory: FeatureMemory, window: Window) -> Array:
    """The average of the standard errors; of the first two, the larger."""
    noise = memory.noise + _NOISE * (window.error - memory.noise)
    early = jnp.maximum(memory.noise, window.error)
    return jnp.where(window.is_early, early, noise)


def _has_descended(new: FeatureMemory, window: Window) -> Array:
    """Whether the loss has fallen beyond doubt, in two windows or by far in one."""
    decrease = new.first_value - window.value
    mean_decrease = new.first_value - new.fast.mean
    is_low = jnp.minimum(decrease, mean_decrease) > DESCENT * new.noise
    is_low |= decrease > (DESCENT + 1.0) * math.sqrt(2.0) * new.noise
    return new.has_descended | (is_low & ~window.is_early)


def _progress_log_scale(
    memory: FeatureMemory, new: FeatureMemory, window: Window, log_scale: Array
) -> Array:
    """Moves the mean by the share that this window has in the total improvement.

    While the learning rate grows, the mean grows along with it, however early a loss
    without noise shows its first descent.
    """
    gained = memory.best_value - window.value
    gained = jnp.where(window.is_best, gained, 0.0)
    share = ratio(gained, new.first_value - new.best_value)
    share = jnp.where(window.is_first, 0.0, share)
    mean = memory.progress_log_scale
    return mean + share * (log_scale - mean)


def _blow_up_log_scale(
    memory: FeatureMemory, window: Window, log_scale: Array
) -> Array:
    """The lowest log scale that blew up."""
    is_lowest = ~memory.has_blown_up | (log_scale < memory.blow_up_log_scale)
    return jnp.where(~window.is_finite & is_lowest, log_scale, memory.blow_up_log_scale)


def _gap_memory(
    memory: FeatureMemory, window: Window, observation: Observation, part: float | None
) -> gap_features.GapMemory:
    """The memory of the averaging gap, which restarts after a blow-up."""
    gap_memory = select(
        memory.is_blown_up, gap_features.first_memory(), memory.gap_memory
    )
    value = jnp.where(window.is_finite, window.value, jnp.inf)
    return gap_features.remember(gap_memory, observation._replace(value=value), part)


def ratio(numerator: Array, denominator: Array) -> Array:
    """The quotient; 0 over anything that is not positive."""
    is_positive = denominator > 0
    safe = jnp.where(is_positive, denominator, 1.0)
    return jnp.where(is_positive, numerator / safe, 0.0)
