"""Windows pooled into periods in proportion to the elapsed time, one a decision.

So a long run looks like a slow short one.
"""

from typing import NamedTuple

import jax.numpy as jnp

from optax_adaptive import _history
from optax_adaptive._controller import Array, Observation
from optax_adaptive.controllers._cost_features import one_over

PERIODS = 8  # that are kept
ELAPSED_PERIOD = 1 / 32  # of the steps so far, at most
TOTAL_PERIOD = 1 / 64  # and of all steps


class OpenPeriod(NamedTuple):
    """Means over the windows of the open period."""

    windows: Array  # shape=(), dtype=int32: finite ones
    mean: Array  # shape=(), dtype=float32: of the loss
    error: Array  # shape=(), dtype=float32: of the windows' standard errors
    costs: Array  # shape=(), dtype=int32: windows in which noise cost was measured
    cost: Array  # shape=(), dtype=float32: mean of that


class Periods(NamedTuple):
    """The open period, and the closed ones."""

    open: OpenPeriod
    means: Array  # shape=(PERIODS,), dtype=float32: oldest first
    count: Array  # shape=(), dtype=int32: closed so far
    end: Array  # shape=(), dtype=float32: of the open one, in steps


def first_periods() -> Periods:
    """Before the first window."""
    return Periods(
        open=_first_open(),
        means=jnp.zeros((PERIODS,), jnp.float32),
        count=jnp.zeros((), jnp.int32),
        end=jnp.zeros((), jnp.float32),
    )


def add(periods: Periods, observation: Observation) -> Periods:
    """Takes a window into the open period, if it is finite."""
    open_, is_finite = periods.open, jnp.isfinite(observation.value)
    windows = open_.windows + is_finite.astype(jnp.int32)
    weight = jnp.where(is_finite, one_over(windows), 0.0)
    value = jnp.where(is_finite, observation.value, 0.0)
    is_measured = is_finite & observation.has_noise_cost
    costs = open_.costs + is_measured.astype(jnp.int32)
    share = jnp.where(is_measured, one_over(costs), 0.0)
    return periods._replace(
        open=OpenPeriod(
            windows=windows,
            mean=open_.mean + weight * (value - open_.mean),
            error=open_.error + weight * (observation.standard_error[-1] - open_.error),
            costs=costs,
            cost=open_.cost + share * (observation.noise_cost - open_.cost),
        )
    )


def is_over(periods: Periods, observation: Observation) -> Array:
    """Whether this window closes the period: it blew up, or ends it; bool."""
    step = observation.step.astype(jnp.float32) + 1.0
    return ~jnp.isfinite(observation.value) | (step >= periods.end)


def close(periods: Periods, observation: Observation) -> tuple[Periods, Observation]:
    """Closes the open period.

    Args:
      periods: The periods, this window included.
      observation: The window that closes it; if it blew up, the period counts for
        nothing.

    Returns:
      The new periods, and the period as if it were a window, ``log_scale`` and ``step``
      being those of the window.
    """
    open_, is_finite = periods.open, jnp.isfinite(observation.value)
    means = _history.push(periods.means, open_.mean, is_finite)
    count = periods.count + is_finite.astype(jnp.int32)
    windows = jnp.maximum(open_.windows, 1).astype(jnp.float32)
    pooled = observation._replace(
        value=jnp.where(is_finite, open_.mean, jnp.inf),
        history=means,
        mask=_history.filled(PERIODS, count),
        standard_error=jnp.full((PERIODS,), open_.error / jnp.sqrt(windows)),
        noise_cost=open_.cost,
        has_noise_cost=open_.costs > 0,
    )
    return periods._replace(open=_first_open(), means=means, count=count), pooled


def following(
    periods: Periods,
    step: Array,
    horizon: float | Array,
    *,
    is_fresh: Array,
    is_short: Array,
) -> Periods:
    """Opens the next period.

    Args:
      periods: The periods, none of them open.
      step: int32 steps so far.
      horizon: Steps of the whole run; inf if that is unknown.
      is_fresh: bool, whether the parameters are others from here on, so that what is
        closed counts no more.
      is_short: bool, whether the next period is a single window.

    Returns:
      The new periods.
    """
    steps = step.astype(jnp.float32) + 1.0
    length = jnp.minimum(ELAPSED_PERIOD * steps, TOTAL_PERIOD * horizon)
    return periods._replace(
        count=jnp.where(is_fresh, 0, periods.count),
        end=steps + jnp.where(is_short, 0.0, jnp.floor(length)),
    )


def _first_open() -> OpenPeriod:
    zero, none = jnp.zeros((), jnp.float32), jnp.zeros((), jnp.int32)
    return OpenPeriod(windows=none, mean=zero, error=zero, costs=none, cost=zero)
