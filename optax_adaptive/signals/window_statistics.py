"""The meter: the open window of metric values, and what has been seen so far."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from optax_adaptive._controller import Request, nothing
from optax_adaptive.state.validation import check_real

Array = jax.Array

# Sums of a few such values stay below float32's largest number, 3.4e38.
LARGEST = 1e37
BLOWN_UP = 2**30  # non-finite values in a row: stays until the rule has seen it


class Meter(NamedTuple):
    """What every step touches. Metrics are kept as they were handed in."""

    step: Array  # shape=(), dtype=int32: updates so far
    windows: Array  # shape=(), dtype=int32: windows in the history so far
    last: Array  # shape=(), dtype=float32: mean of the newest one
    best: Array  # shape=(), dtype=float32: best mean; ±inf before the first
    size: Array  # shape=(), dtype=int32: finite values in the open window
    mean: Array  # shape=(), dtype=float32: their mean
    m2: Array  # shape=(), dtype=float32: their squared deviations, summed
    run: Array  # shape=(), dtype=int32: newest non-finite values in a row
    nonfinite: Array  # shape=(), dtype=int32: non-finite values so far
    validation: Array  # shape=(), dtype=float32: newest value given to observe()
    is_validated: Array  # shape=(), dtype=bool: was it given since its last use?
    gaps: Array  # shape=(), dtype=float32: averaging gaps, summed over the open window
    slopes: Array  # shape=(), dtype=float32: the same of the slopes towards the copy
    gaps_size: Array  # shape=(), dtype=int32: number of both
    found_scale: Array  # shape=(), dtype=float32: factor when the probes ended; or 0
    request: Request  # of the rule, after its last decision


def first(mode: str) -> Meter:
    """The meter before the first step."""
    return Meter(
        step=jnp.zeros((), jnp.int32),
        windows=jnp.zeros((), jnp.int32),
        last=jnp.zeros((), jnp.float32),
        best=jnp.array(jnp.inf if mode == "min" else -jnp.inf, jnp.float32),
        size=jnp.zeros((), jnp.int32),
        mean=jnp.zeros((), jnp.float32),
        m2=jnp.zeros((), jnp.float32),
        run=jnp.zeros((), jnp.int32),
        nonfinite=jnp.zeros((), jnp.int32),
        validation=jnp.zeros((), jnp.float32),
        is_validated=jnp.zeros((), jnp.bool_),
        gaps=jnp.zeros((), jnp.float32),
        slopes=jnp.zeros((), jnp.float32),
        gaps_size=jnp.zeros((), jnp.int32),
        found_scale=jnp.zeros((), jnp.float32),
        request=nothing(),
    )


# Of the first words of every packed memory: what reads them need not know the rule.
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
            "tx.update(grads, opt_state, params, value=loss)"
        )
    check_real("value", value)
    value = as_float32(value)
    if value.ndim:
        raise ValueError(
            f"`value` must be a scalar, but its shape is {value.shape}; average it "
            "first, as in value=loss.mean()"
        )
    return lax.stop_gradient(value)


def accumulate(meter: Meter, metric: Array, is_new: Array) -> Meter:
    """Adds ``metric`` to the open window (Welford, 1962), or counts it."""
    is_finite = is_new & (jnp.abs(metric) <= LARGEST)  # NaN compares false
    is_nonfinite = (is_new & ~is_finite).astype(jnp.int32)
    size = meter.size + is_finite.astype(jnp.int32)
    delta = jnp.where(is_finite, metric, 0.0) - meter.mean
    step = delta / jnp.maximum(size, 1).astype(jnp.float32)
    # A running mean of squares would cancel in float32; this one can only overflow.
    m2 = jnp.minimum(meter.m2 + delta * (delta - step), jnp.finfo(jnp.float32).max)
    return meter._replace(
        step=optax.safe_increment(meter.step),
        size=size,
        mean=jnp.where(is_finite, meter.mean + step, meter.mean),
        m2=jnp.where(is_finite, m2, meter.m2),
        run=jnp.where(is_finite & ~is_blown_up(meter), 0, meter.run + is_nonfinite),
        nonfinite=meter.nonfinite + is_nonfinite,
    )


def add_gap(meter: Meter, gap: Array, slope: Array, is_new: Array) -> Meter:
    """Adds an averaging gap and a slope to the open window, if new and finite."""
    is_new &= (jnp.abs(gap) <= LARGEST) & (jnp.abs(slope) <= LARGEST)  # NaN: false
    return meter._replace(
        gaps=meter.gaps + jnp.where(is_new, gap, 0.0),
        slopes=meter.slopes + jnp.where(is_new, slope, 0.0),
        gaps_size=meter.gaps_size + is_new.astype(jnp.int32),
    )


def mean_gap(meter: Meter) -> tuple[Array, Array]:
    """Mean gap and slope of the open window, float32; 0 where none was measured."""
    sums = jnp.clip(jnp.stack([meter.gaps, meter.slopes]), -LARGEST, LARGEST)
    means = sums / jnp.maximum(meter.gaps_size, 1).astype(jnp.float32)
    return means[0], means[1]


def blow_up(meter: Meter) -> Meter:
    """The open window has blown up, whatever its values: the next decision is due."""
    return open_window(meter)._replace(run=jnp.array(BLOWN_UP, jnp.int32))


def is_blown_up(meter: Meter) -> Array:
    """Whether :func:`blow_up` was called since the last decision, bool."""
    return meter.run >= BLOWN_UP


def open_window(meter: Meter) -> Meter:
    """Empties the window: what follows a decision is judged on its own."""
    return meter._replace(
        size=jnp.zeros((), jnp.int32),
        mean=jnp.zeros((), jnp.float32),
        m2=jnp.zeros((), jnp.float32),
        run=jnp.zeros((), jnp.int32),
        is_validated=jnp.zeros((), jnp.bool_),
        gaps=jnp.zeros((), jnp.float32),
        slopes=jnp.zeros((), jnp.float32),
        gaps_size=jnp.zeros((), jnp.int32),
    )


def standard_error(meter: Meter) -> Array:
    """Standard error of the open window's mean, from its own values."""
    size = meter.size.astype(jnp.float32)
    return jnp.sqrt(meter.m2 / jnp.maximum(size - 1, 1) / jnp.maximum(size, 1))
