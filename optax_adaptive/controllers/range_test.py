"""range_test: raises the learning rate from far below until the loss keeps rising."""

import math
from typing import NamedTuple

import jax.numpy as jnp

from optax_adaptive._controller import ROUNDING, Array, Controller
from optax_adaptive.state.validation import check_range, is_concrete


class RangeTestState(NamedTuple):
    """State of :func:`range_test`."""

    first_value: Array  # shape=(), dtype=float32: of the first window
    first_error: Array  # shape=(), dtype=float32
    best_value: Array  # shape=(), dtype=float32: inf before the first window
    best_error: Array  # shape=(), dtype=float32
    has_descended: Array  # shape=(), dtype=bool: has the loss fallen yet?
    is_suspect: Array  # shape=(), dtype=bool: was the last window bad?
    is_done: Array  # shape=(), dtype=bool: has the test ended?


def range_test(
    start: float | Array = 1e-5,
    stop: float | Array = 1e5,
    growth: float | Array = 2**0.5,
    idle_growth: float | Array = 10**0.5,
    backoff: float | Array = 8.0,
) -> Controller:
    """Finds the largest stable learning rate, then keeps a fraction of it.

    The factor starts at ``start`` and is multiplied every window: by ``idle_growth``
    until the loss descends, since whole decades may change nothing, and by ``growth``
    once it has (below the first window by 4 combined standard errors plus 2%). A window
    is bad if it lies above the best one by 2 combined standard errors; before any
    descent only a far larger rise counts (10 errors plus 50%), so that noise cannot end
    the test at its start. After a bad window the factor stays for one window more;
    two in a row, or one without a finite value, end the test, and the factor becomes
    the bad one over ``backoff``. From then on it is constant: hand over to a rule that
    anneals with :func:`then`.

    Args:
      start: First factor, above 0.
      stop: Factor at which the test ends if nothing else ends it, above ``start``.
      growth: What multiplies the factor at each window, once the loss has descended;
        above 1.
      idle_growth: The same before it has descended; above 1.
      backoff: What the stopping factor is divided by, at least 1. An eighth of the
        largest stable learning rate suits Adam and the like; a half or a quarter suits
        momentum SGD.

    Returns:
      A :class:`~optax_adaptive.Controller`; the ``is_done`` of its state tells
      :func:`then` when to hand over.

    Raises:
      ValueError: If an argument is out of its range.

    Example:
      >>> from optax_adaptive import controllers, scale_by_controller
      >>> rule = controllers.then(controllers.range_test(), controllers.trend())
      >>> tx = scale_by_controller(rule, accumulation_size=10)
      >>> print(f"{tx.init(None).lr_scale:.0e}")
      1e-05

    Reference:
      Smith, `Cyclical learning rates for training neural networks
      <https://arxiv.org/abs/1506.01186>`_, 2015 (the range test); the stopping rule is
      this project's own.
    """
    check_range("start", start, 0.0, open_low=True)
    if is_concrete(start):
        check_range("stop", stop, start, open_low=True)
    check_range("growth", growth, 1.0, open_low=True)
    check_range("idle_growth", idle_growth, 1.0, open_low=True)
    check_range("backoff", backoff, 1.0)

    def init_fn():
        return RangeTestState(
            first_value=jnp.zeros((), jnp.float32),
            first_error=jnp.zeros((), jnp.float32),
            best_value=jnp.array(jnp.inf, jnp.float32),
            best_error=jnp.zeros((), jnp.float32),
            has_descended=jnp.zeros((), jnp.bool_),
            is_suspect=jnp.zeros((), jnp.bool_),
            is_done=jnp.zeros((), jnp.bool_),
        )

    def judge(observation, state):
        """Whether the loss has descended by now, and whether this window is bad."""
        value, error = observation.value, observation.standard_error[-1]
        decrease = state.first_value - value
        margin = jnp.abs(state.first_value)
        spread = jnp.hypot(error, state.first_error)
        has_descended = state.has_descended | (decrease > 4 * spread + 0.02 * margin)
        rises = value > state.best_value + 2 * jnp.hypot(error, state.best_error)
        is_far = -decrease > 10 * spread + 0.5 * margin
        return has_descended, jnp.where(has_descended, rises, is_far)

    def update_fn(observation, state):
        value, error = observation.value, observation.standard_error[-1]
        is_finite = jnp.isfinite(value)
        is_first = jnp.isinf(state.best_value) & is_finite
        state = state._replace(
            first_value=jnp.where(is_first, value, state.first_value),
            first_error=jnp.where(is_first, error, state.first_error),
        )
        has_descended, is_bad = judge(observation, state)
        is_better = value < state.best_value
        log_scale = observation.log_scale
        step = jnp.log(jnp.where(has_descended, growth, idle_growth))
        is_at_stop = log_scale >= jnp.log(stop) - ROUNDING
        is_over = (is_bad & state.is_suspect) | ~is_finite | is_at_stop
        moved = jnp.where(is_bad, log_scale, log_scale + step)
        moved = jnp.minimum(moved, jnp.log(stop))
        moved = jnp.where(is_over, log_scale - jnp.log(backoff), moved)
        return jnp.where(state.is_done, log_scale, moved), RangeTestState(
            first_value=state.first_value,
            first_error=state.first_error,
            best_value=jnp.where(is_better, value, state.best_value),
            best_error=jnp.where(is_better, error, state.best_error),
            has_descended=has_descended,
            is_suspect=is_bad,
            is_done=state.is_done | is_over,
        )

    log_start = math.log(start) if is_concrete(start) else jnp.log(start)
    return Controller(
        init_fn, update_fn, initial_log_scale=log_start, name="range_test"
    )
