"""What a learning rule sees: the state of a training in numbers without a unit.

No feature changes when the loss is multiplied by a constant, or one is added to it, nor
when the base learning rate is another: so what is learned on one task has a meaning on
the next. All are of the order of 1, and finite whatever the loss does.
"""

import math
from typing import NamedTuple

import jax.numpy as jnp

from optax_adaptive._controller import Array, Observation
from optax_adaptive.controllers.learned import gap_features
from optax_adaptive.signals.slope_test import slope_test
from optax_adaptive.state.trees import select

NAMES = (
    "slope_4",  # z score of the slope over the newest 4 windows
    "slope_8",  # and over 8
    "jump",  # last change in units of its noise
    "trend",  # fast over slow average, in units of all progress so far
    "regress",  # how far above the best window, in the same unit
    "signal",  # all progress so far in units of the noise
    "has_descended",  # 1 once the loss has fallen beyond doubt
    "since_best",  # log windows since the best one
    "age",  # log windows so far
    "elapsed",  # t / T; 0 if T is unknown
    "remaining",  # log(1 - t / T); 0 if T is unknown
    "has_horizon",  # 1 if T is known
    "previous_action",  # in [-1, 1]
    "above_progress",  # log rate over the mean one at which progress was made
    "near_blow_up",  # root of the rate over the lowest that blew up; 0 if none did
    "is_blown_up",  # 1 if this window has no finite value
    *gap_features.NAMES,
)
SIZE = len(NAMES)

_LIMIT = 4.0  # no feature is larger
_FAST, _SLOW = 0.4, 0.1  # weights of the newest window in the averages
_NOISE = 0.2  # and in the average of the standard errors
_ROUNDING = 1e-6  # of a float32 mean, relative to its size
_WILD = 4.0  # times what is usual: larger windows count as so large
DESCENT = 4.0  # combined standard errors that no noise explains


class FeatureMemory(NamedTuple):
    """What the features need to remember beyond the newest windows."""

    windows: Array  # shape=(), dtype=int32: finite ones so far
    since_best: Array  # shape=(), dtype=int32: finite ones since the best
    first_value: Array  # shape=(), dtype=float32: 0 before the first
    last_value: Array  # shape=(), dtype=float32: of the newest finite window
    change: Array  # shape=(), dtype=float32: to the newest window; 0 at a blow-up
    best_value: Array  # shape=(), dtype=float32
    fast: Array  # shape=(), dtype=float32: average over about 2 windows
    slow: Array  # shape=(), dtype=float32: and over about 10
    noise: Array  # shape=(), dtype=float32: average standard error of a window
    has_descended: Array  # shape=(), dtype=bool
    progress_log_scale: Array  # shape=(), dtype=float32: mean, weighted by progress
    has_blown_up: Array  # shape=(), dtype=bool
    blow_up_log_scale: Array  # shape=(), dtype=float32: the lowest that blew up
    is_blown_up: Array  # shape=(), dtype=bool: the newest window did
    previous_action: Array  # shape=(), dtype=float32: set by the rule, in [-1, 1]
    gap_memory: gap_features.CostMemory


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
        fast=zero,
        slow=zero,
        noise=zero,
        has_descended=no,
        progress_log_scale=zero,
        has_blown_up=no,
        blow_up_log_scale=zero,
        is_blown_up=no,
        previous_action=zero,
        gap_memory=gap_features.first_memory(),
    )


def remember(
    memory: FeatureMemory, observation: Observation, part: float | None = None
) -> FeatureMemory:
    """Takes the newest window into the memory.

    Args:
      memory: The memory before this window.
      observation: The window. A ``value`` of inf is a blow-up, at the rate in force.
      part: What it makes up of the elapsed time; None if all windows are alike.

    Returns:
      The new memory, still with the old ``previous_action``.
    """
    is_finite = jnp.isfinite(observation.value)
    is_first = is_finite & (memory.windows == 0)
    # A window of one value has no error until there is a second one to compare with.
    is_early = memory.windows < 2
    error = jnp.where(is_finite, observation.standard_error[-1], memory.noise)
    # One wild window must not blind the statistics to all that follow.
    error = jnp.where(is_early, error, jnp.minimum(error, _WILD * memory.noise))
    unit = memory.first_value - memory.best_value + memory.noise
    highest = memory.first_value + _WILD * unit
    value = jnp.where(is_finite, observation.value, memory.last_value)
    value = jnp.where(is_early, value, jnp.minimum(value, highest))
    error = jnp.maximum(error, _ROUNDING * jnp.abs(value))
    log_scale = observation.log_scale

    # After a blow-up the parameters are others.
    is_fresh = is_finite & (is_first | memory.is_blown_up)

    def follow(average, weight):
        moved = average + jnp.where(is_finite, weight, 0.0) * (value - average)
        return jnp.where(is_fresh, value, moved)

    fast = follow(memory.fast, _FAST)
    noise = memory.noise + _NOISE * (error - memory.noise)
    noise = jnp.where(is_early, jnp.maximum(memory.noise, error), noise)
    first_value = jnp.where(is_first, value, memory.first_value)
    is_best = is_first | (is_finite & (value < memory.best_value))
    best_value = jnp.where(is_best, value, memory.best_value)
    # The share that this window has in all progress so far. A climb moves the mean rate
    # along with it, however early a loss without noise shows its first descent.
    progress = first_value - best_value
    share = _ratio(jnp.where(is_best, memory.best_value - value, 0.0), progress)
    share = jnp.where(is_first, 0.0, share)
    fall = first_value - value
    is_low = jnp.minimum(fall, first_value - fast) > DESCENT * noise
    is_low |= fall > (DESCENT + 1.0) * math.sqrt(2.0) * noise
    has_descended = memory.has_descended | (is_low & ~is_early)
    is_lowest = ~memory.has_blown_up | (log_scale < memory.blow_up_log_scale)
    gap_memory = select(
        memory.is_blown_up, gap_features.first_memory(), memory.gap_memory
    )
    clipped = observation._replace(value=jnp.where(is_finite, value, jnp.inf))
    return memory._replace(
        windows=memory.windows + is_finite.astype(jnp.int32),
        since_best=jnp.where(
            is_best, 0, memory.since_best + is_finite.astype(jnp.int32)
        ),
        first_value=first_value,
        last_value=value,
        change=jnp.where(is_first, 0.0, value - memory.last_value),
        best_value=best_value,
        fast=fast,
        slow=follow(memory.slow, _SLOW),
        noise=noise,
        has_descended=has_descended,
        progress_log_scale=memory.progress_log_scale
        + share * (log_scale - memory.progress_log_scale),
        has_blown_up=memory.has_blown_up | ~is_finite,
        blow_up_log_scale=jnp.where(
            ~is_finite & is_lowest, log_scale, memory.blow_up_log_scale
        ),
        is_blown_up=~is_finite,
        gap_memory=gap_features.remember(gap_memory, clipped, part),
    )


def begin_again(memory: FeatureMemory, log_scale: Array) -> FeatureMemory:
    """The memory when a trial is undone: ``log_scale`` counts as a blow-up's."""
    first = memory.first_value
    return first_memory()._replace(
        windows=memory.windows,
        first_value=first,
        last_value=first,
        best_value=first,
        fast=first,
        slow=first,
        noise=memory.noise,
        has_blown_up=jnp.ones((), jnp.bool_),
        blow_up_log_scale=log_scale,
    )


def features(
    memory: FeatureMemory,
    observation: Observation,
    total_steps: float | Array = math.inf,
) -> Array:
    """The features of a window that :func:`remember` has taken in.

    Args:
      memory: The memory, this window included.
      observation: The window.
      total_steps: Length of the run in steps, inf if it is unknown.

    Returns:
      float32 of shape ``(SIZE,)``, in the order of ``NAMES``, each in [-4, 4].
    """
    count = jnp.sum(observation.mask).astype(jnp.int32)

    def slope(windows):
        newest = jnp.minimum(count, windows)
        return _squash(slope_test(observation.history, newest).z) / 2

    progress = memory.first_value - memory.best_value
    unit = progress + 2.0 * memory.noise
    above = observation.log_scale - memory.progress_log_scale
    below = jnp.minimum(observation.log_scale - memory.blow_up_log_scale, 0.0)
    horizon = jnp.asarray(total_steps, jnp.float32)
    elapsed = (observation.step.astype(jnp.float32) + 1.0) / horizon
    elapsed = jnp.clip(elapsed, 0.0, 1.0)
    values = (
        slope(4),
        slope(8),
        _squash(_ratio(memory.change, math.sqrt(2.0) * memory.noise)) / 2,
        _squash(_ratio(3.0 * (memory.fast - memory.slow), unit)),
        _squash(_ratio(memory.last_value - memory.best_value, unit)),
        _squash(_ratio(progress, memory.noise)) / 4,
        memory.has_descended.astype(jnp.float32),
        _log1p(memory.since_best) / 2,
        _log1p(memory.windows) / 3,
        elapsed,
        jnp.log(jnp.maximum(1.0 - elapsed, 0.02)) / 4,
        jnp.isfinite(horizon).astype(jnp.float32),
        memory.previous_action,
        jnp.where(memory.has_descended, above, 0.0) / (2 * math.log(10.0)),
        jnp.where(memory.has_blown_up, jnp.exp(below / 2), 0.0),
        memory.is_blown_up.astype(jnp.float32),
    )
    costs = gap_features.features(memory.gap_memory, memory.noise)
    return jnp.clip(jnp.append(jnp.stack(values), costs), -_LIMIT, _LIMIT)


def _ratio(numerator: Array, denominator: Array) -> Array:
    """The quotient; 0 over anything that is not positive."""
    is_positive = denominator > 0
    safe = jnp.where(is_positive, denominator, 1.0)
    return jnp.where(is_positive, numerator / safe, 0.0)


def _squash(x: Array) -> Array:
    """Linear near 0 and logarithmic far off, odd."""
    return jnp.sign(x) * jnp.log1p(jnp.abs(x))


def _log1p(count: Array) -> Array:
    return jnp.log1p(count.astype(jnp.float32))
