"""The state of a training as features: numbers without a unit.

No feature changes when the loss is multiplied by a constant, when a constant is added
to it, or when the base learning rate changes: so what is learned on one task applies to
the next. All are of the order of 1, and finite whatever the loss does.
"""

import math

import jax.numpy as jnp

from optax_adaptive._controller import Array, Observation
from optax_adaptive.controllers.learned import gap_features
from optax_adaptive.controllers.learned.feature_memory import FeatureMemory, ratio
from optax_adaptive.signals.slope_test import slope_test

NAMES = (
    "slope_4",  # z score of the slope over the newest 4 windows
    "slope_8",  # and over 8
    "jump",  # last change in units of its noise
    "trend",  # fast over slow average, in units of the total improvement
    "regress",  # how far above the best window, in the same unit
    "signal",  # total improvement in units of the noise
    "has_descended",  # 1 once the loss has fallen beyond doubt
    "since_best",  # log windows since the best one
    "age",  # log windows so far
    "elapsed",  # t / T; 0 if T is not given
    "remaining",  # log(1 - t / T); 0 if T is not given
    "has_total_steps",  # 1 if T is given
    "previous_action",  # in [-1, 1]
    "above_progress",  # log of the scale over the mean one at which the loss improved
    "near_blow_up",  # root of the scale over the lowest that blew up; 0 if none did
    "is_blown_up",  # 1 if this window has no finite value
    *gap_features.NAMES,
)
SIZE = len(NAMES)

_LIMIT = 4.0  # no feature is larger


def features(
    memory: FeatureMemory,
    observation: Observation,
    total_steps: float | Array = math.inf,
) -> Array:
    """The features of a window that :func:`feature_memory.remember` has added.

    Args:
      memory: The memory, this window included.
      observation: The window.
      total_steps: Length of the run in steps, inf if it is not given.

    Returns:
      float32 of shape ``(SIZE,)``, in the order of ``NAMES``, each in [-4, 4].
    """
    count = jnp.sum(observation.mask).astype(jnp.int32)

    def slope(windows):
        newest = jnp.minimum(count, windows)
        return _squash(slope_test(observation.history, newest)) / 2

    progress = memory.first_value - memory.best_value
    unit = progress + 2.0 * memory.noise
    above = observation.log_scale - memory.progress_log_scale
    below = jnp.minimum(observation.log_scale - memory.blow_up_log_scale, 0.0)
    total = jnp.asarray(total_steps, jnp.float32)
    elapsed = (observation.step.astype(jnp.float32) + 1.0) / total
    elapsed = jnp.clip(elapsed, 0.0, 1.0)
    values = (
        slope(4),
        slope(8),
        _squash(ratio(memory.change, math.sqrt(2.0) * memory.noise)) / 2,
        _squash(ratio(3.0 * (memory.fast.mean - memory.slow.mean), unit)),
        _squash(ratio(memory.last_value - memory.best_value, unit)),
        _squash(ratio(progress, memory.noise)) / 4,
        memory.has_descended.astype(jnp.float32),
        _log1p(memory.since_best) / 2,
        _log1p(memory.windows) / 3,
        elapsed,
        jnp.log(jnp.maximum(1.0 - elapsed, 0.02)) / 4,
        jnp.isfinite(total).astype(jnp.float32),
        memory.previous_action,
        jnp.where(memory.has_descended, above, 0.0) / (2 * math.log(10.0)),
        jnp.where(memory.has_blown_up, jnp.exp(below / 2), 0.0),
        memory.is_blown_up.astype(jnp.float32),
    )
    gaps = gap_features.features(memory.gap_memory, memory.noise)
    return jnp.clip(jnp.append(jnp.stack(values), gaps), -_LIMIT, _LIMIT)


def _squash(x: Array) -> Array:
    """Linear near 0 and logarithmic far off, odd."""
    return jnp.sign(x) * jnp.log1p(jnp.abs(x))


def _log1p(count: Array) -> Array:
    return jnp.log1p(count.astype(jnp.float32))
