"""The meter: the open window of metric values, and what has been seen so far."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

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
    trial: Array  # shape=(), dtype=int32: which one the rule is in; 0 for none
    costs: Array  # shape=(), dtype=float32: of noise, summed over the open window
    costs_size: Array  # shape=(), dtype=int32: and their number


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
        trial=jnp.zeros((), jnp.int32),
        costs=jnp.zeros((), jnp.float32),
        costs_size=jnp.zeros((), jnp.int32),
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


def add_cost(meter: Meter, cost: Array, is_new: Array) -> Meter:
    """Adds what noise costs to the open window, if it is new and finite."""
    is_new &= jnp.abs(cost) <= LARGEST  # NaN compares false
    return meter._replace(
        costs=meter.costs + jnp.where(is_new, cost, 0.0),
        costs_size=meter.costs_size + is_new.astype(jnp.int32),
    )


def mean_cost(meter: Meter) -> Array:
    """What noise cost in the open window, float32; 0 where that was not measured."""
    costs = jnp.clip(meter.costs, -LARGEST, LARGEST)  # the sum may overflow
    return costs / jnp.maximum(meter.costs_size, 1).astype(jnp.float32)


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
        costs=jnp.zeros((), jnp.float32),
        costs_size=jnp.zeros((), jnp.int32),
    )


def standard_error(meter: Meter) -> Array:
    """Standard error of the open window's mean, from its own values."""
    size = meter.size.astype(jnp.float32)
    return jnp.sqrt(meter.m2 / jnp.maximum(size - 1, 1) / jnp.maximum(size, 1))
