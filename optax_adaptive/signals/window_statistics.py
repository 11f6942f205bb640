"""Window statistics: of the values in the open window, and of all so far."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from optax_adaptive._controller import Request, nothing
from optax_adaptive.state.trees import saturating_add
from optax_adaptive.state.validation import check_real

Array = jax.Array

# Sums of a few such values stay below float32's largest number, 3.4e38.
LARGEST = 1e37
BLOWN_UP = 2**30  # as ``nonfinite_in_a_row``, marks a blow-up until the rule decides


class WindowStatistics(NamedTuple):
    """What every step touches. Metrics are kept as handed in, never negated."""

    step: Array  # shape=(), dtype=int32: updates so far
    windows: Array  # shape=(), dtype=int32: windows in the history so far
    last: Array  # shape=(), dtype=float32: mean of the newest window
    best: Array  # shape=(), dtype=float32: best mean; ±inf before the first
    size: Array  # shape=(), dtype=int32: finite values in the open window
    mean: Array  # shape=(), dtype=float32: their mean
    m2: Array  # shape=(), dtype=float32: sum of squares about that mean
    # shape=(), dtype=int32: newest non-finite values without a finite one between
    nonfinite_in_a_row: Array
    nonfinite: Array  # shape=(), dtype=int32: non-finite values so far
    nonfinite_answers: Array  # shape=(), dtype=int32: of the rule, which do not count
    validation: Array  # shape=(), dtype=float32: newest value given to observe()
    is_validated: Array  # shape=(), dtype=bool: was it given since its last use?
    is_rolled_back: Array  # shape=(), dtype=bool: was a rollback in the open window?
    gaps: Array  # shape=(), dtype=float32: averaging gaps, summed over the open window
    slopes: Array  # shape=(), dtype=float32: the same of the slopes towards the copy
    gaps_size: Array  # shape=(), dtype=int32: number of each
    found_scale: Array  # shape=(), dtype=float32: factor when the search ended; or 0
    # shape=(), dtype=float32: least and most of the first update of the optimizer that
    # the run began with; 0 if not known
    least_first_update: Array
    most_first_update: Array
    request: Request  # of the rule, after its last decision


def first(mode: str) -> WindowStatistics:
    """Those before the first step."""
    return WindowStatistics(
        step=jnp.zeros((), jnp.int32),
        windows=jnp.zeros((), jnp.int32),
        last=jnp.zeros((), jnp.float32),
        best=jnp.array(jnp.inf if mode == "min" else -jnp.inf, jnp.float32),
        size=jnp.zeros((), jnp.int32),
        mean=jnp.zeros((), jnp.float32),
        m2=jnp.zeros((), jnp.float32),
        nonfinite_in_a_row=jnp.zeros((), jnp.int32),
        nonfinite=jnp.zeros((), jnp.int32),
        nonfinite_answers=jnp.zeros((), jnp.int32),
        validation=jnp.zeros((), jnp.float32),
        is_validated=jnp.zeros((), jnp.bool_),
        is_rolled_back=jnp.zeros((), jnp.bool_),
        gaps=jnp.zeros((), jnp.float32),
        slopes=jnp.zeros((), jnp.float32),
        gaps_size=jnp.zeros((), jnp.int32),
        found_scale=jnp.zeros((), jnp.float32),
        least_first_update=jnp.zeros((), jnp.float32),
        most_first_update=jnp.zeros((), jnp.float32),
        request=nothing(),
    )


# Layout of the first words of every packed memory: to read them needs no rule.
LAYOUT = jax.eval_shape(lambda: first("min"))


def as_float32(metric: Any) -> Array:
    """Takes a metric of any dtype; what float32 cannot hold becomes infinite."""
    if isinstance(metric, jax.Array):
        return metric.astype(jnp.float32)
    # Straight to float32: by way of int32, 3e9 as an integer would turn negative.
    with np.errstate(over="ignore"):
        return jnp.asarray(metric, jnp.float32)


def as_metric(value: Any) -> Array:
    """The metric as float32 of shape (), or a clear error."""
    if value is None:
        raise TypeError(
            "update() needs the keyword `value`: pass the loss, as in "
            "tx.update(grads, opt_state, params, value=loss). If you do, something in "
            "between drops it: for a linen TrainState use integrations.apply_gradients,"
            " and for an optax.MultiSteps inside optax.chain integrations.multi_steps"
        )
    check_real("value", value)
    value = as_float32(value)
    if value.ndim:
        raise ValueError(
            f"`value` must be a scalar, but its shape is {value.shape}; average it "
            "first, as in value=loss.mean()"
        )
    return lax.stop_gradient(value)


def accumulate(
    statistics: WindowStatistics, metric: Array, is_new: Array
) -> WindowStatistics:
    """Adds ``metric``, if new and finite, to the open window (Welford, 1962)."""
    is_countable = jnp.abs(metric) <= LARGEST  # NaN compares false
    is_finite = is_new & is_countable
    is_nonfinite = (is_new & ~is_countable).astype(jnp.int32)
    size = statistics.size + is_finite.astype(jnp.int32)
    delta = jnp.where(is_finite, metric, 0.0) - statistics.mean
    step = delta / jnp.maximum(size, 1).astype(jnp.float32)
    # A running mean of squares would cancel in float32; this one can only overflow.
    m2 = jnp.minimum(statistics.m2 + delta * (delta - step), jnp.finfo(jnp.float32).max)
    return statistics._replace(
        step=saturating_add(statistics.step, 1),
        size=size,
        mean=jnp.where(is_finite, statistics.mean + step, statistics.mean),
        m2=jnp.where(is_finite, m2, statistics.m2),
        nonfinite_in_a_row=jnp.where(
            is_finite & ~is_blown_up(statistics),
            0,
            statistics.nonfinite_in_a_row + is_nonfinite,
        ),
        nonfinite=saturating_add(statistics.nonfinite, ~is_countable),
    )


def add_gap(
    statistics: WindowStatistics, gap: Array, slope: Array, is_new: Array
) -> WindowStatistics:
    """Adds an averaging gap and a slope to the open window, if new and finite."""
    is_new &= (jnp.abs(gap) <= LARGEST) & (jnp.abs(slope) <= LARGEST)  # NaN: false
    return statistics._replace(
        gaps=statistics.gaps + jnp.where(is_new, gap, 0.0),
        slopes=statistics.slopes + jnp.where(is_new, slope, 0.0),
        gaps_size=statistics.gaps_size + is_new.astype(jnp.int32),
    )


def mean_gap(statistics: WindowStatistics) -> tuple[Array, Array]:
    """Mean gap and slope of the open window, float32; 0 where none was measured."""
    sums = jnp.clip(jnp.stack([statistics.gaps, statistics.slopes]), -LARGEST, LARGEST)
    means = sums / jnp.maximum(statistics.gaps_size, 1).astype(jnp.float32)
    return means[0], means[1]


def roll_back(statistics: WindowStatistics, is_blown_up: Array) -> WindowStatistics:
    """Empties the window, since the params have changed.

    If it has blown up, a decision is due, whatever its values.
    """
    return open_window(statistics)._replace(
        is_rolled_back=jnp.ones((), jnp.bool_),
        nonfinite_in_a_row=jnp.where(is_blown_up, BLOWN_UP, 0).astype(jnp.int32),
    )


def is_blown_up(statistics: WindowStatistics) -> Array:
    """Whether the open window has blown up, bool."""
    return statistics.nonfinite_in_a_row >= BLOWN_UP


def open_window(statistics: WindowStatistics) -> WindowStatistics:
    """Empties the window: what follows a decision is judged on its own."""
    return statistics._replace(
        size=jnp.zeros((), jnp.int32),
        mean=jnp.zeros((), jnp.float32),
        m2=jnp.zeros((), jnp.float32),
        nonfinite_in_a_row=jnp.zeros((), jnp.int32),
        is_validated=jnp.zeros((), jnp.bool_),
        is_rolled_back=jnp.zeros((), jnp.bool_),
        gaps=jnp.zeros((), jnp.float32),
        slopes=jnp.zeros((), jnp.float32),
        gaps_size=jnp.zeros((), jnp.int32),
    )


def standard_error(statistics: WindowStatistics) -> Array:
    """Standard error of the open window's mean, from its own values."""
    size = statistics.size.astype(jnp.float32)
    return jnp.sqrt(statistics.m2 / jnp.maximum(size - 1, 1) / jnp.maximum(size, 1))
