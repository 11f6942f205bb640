"""greedy: up after a run of improvements, down after a run without (GreedyLR, 2025)."""

from typing import NamedTuple

import jax.numpy as jnp

from optax_adaptive._controller import Array, Controller
from optax_adaptive.controllers._improvement import beats
from optax_adaptive.signals import history
from optax_adaptive.state.trees import saturating_add
from optax_adaptive.state.validation import check_count, check_range, is_concrete


class GreedyState(NamedTuple):
    """State of :func:`greedy`."""

    best_value: Array  # shape=(), dtype=float32: inf before the first window
    good_windows: Array  # shape=(), dtype=int32: improvements in a row
    bad_windows: Array  # shape=(), dtype=int32: windows without one, in a row
    cooldown_left: Array  # shape=(), dtype=int32
    warmup_left: Array  # shape=(), dtype=int32
    reset_left: Array  # shape=(), dtype=int32: reductions at the floor until a reset
    windows_since_reset: Array  # shape=(), dtype=int32: finite ones
    # shape=(), dtype=float32: log factor that bounds and resets refer to: 0, or that
    # which a search has found
    base: Array


def greedy(
    factor: float | Array = 0.95,
    patience: int | Array = 10,
    rtol: float | Array = 0.0,
    atol: float | Array = 1e-6,
    cooldown: int | Array = 0,
    warmup: int | Array = 0,
    min_scale: float | Array = 1e-3,
    max_scale: float | Array = 10.0,
    smoothing: int | Array = 1,
    reset_after: int | Array = 500,
) -> Controller:
    """Divides the scale by ``factor`` while the metric improves, else multiplies it.

    More than ``patience`` improvements in a row raise the scale; more than ``patience``
    windows in a row without one lower it. It decides as GreedyLR in Hugging Face
    transformers does, with three differences: the bounds are factors on the base
    learning rate, not absolute (an absolute floor of 1e-3 would keep Adam's usual
    rates, which are smaller, from ever being lowered); the relative margin is
    ``rtol * |best|``, which is right for negative metrics too; and a non-finite window
    counts as bad without entering the mean. For the defaults of transformers pass
    ``min_scale=1e-3 / learning_rate``, ``max_scale=1.0 / learning_rate`` and
    ``accumulation_size=1``.

    Args:
      factor: What the scale is multiplied by, or divided by, in (0, 1).
      patience: Windows in a row that still leave the scale as it is, at least 0.
      rtol: Margin of an improvement relative to the best metric, in [0, 1].
      atol: Absolute margin of an improvement, at least 0, in units of the metric.
      cooldown: Windows after a reduction that are not judged, at least 0.
      warmup: Windows after an increase that are not judged, at least 0.
      min_scale: Factor on the base learning rate, or on the rate that a rule before it
        in :func:`then` has found, below which it does not lower the scale, above 0.
      max_scale: Likewise, above which it does not raise it, at least ``min_scale``.
      smoothing: How many newest windows are averaged, at least 1. At most the
        ``window`` of :func:`optax_adaptive.scale_by_controller` are available.
      reset_after: Reductions at the floor after which the rule restarts from that
        learning rate, at least 0.

    Returns:
      A :class:`~optax_adaptive.Controller`.

    Raises:
      ValueError: If an argument is out of its range.

    Example:
      >>> from optax_adaptive import controllers, scale_by_controller
      >>> tx = scale_by_controller(controllers.greedy(), accumulation_size=1)

    Reference:
      Subramanian et al., `Dynamic learning rate scheduling based on loss changes leads
      to faster convergence <https://arxiv.org/abs/2512.14527>`_, 2025
    """
    check_range("factor", factor, 0.0, 1.0, open_low=True, open_high=True)
    check_count("patience", patience, 0)
    check_range("rtol", rtol, 0.0, 1.0)
    check_range("atol", atol, 0.0)
    check_count("cooldown", cooldown, 0)
    check_count("warmup", warmup, 0)
    check_range("min_scale", min_scale, 0.0, open_low=True)
    if is_concrete(min_scale):
        check_range("max_scale", max_scale, min_scale)
    check_count("smoothing", smoothing)
    check_count("reset_after", reset_after, 0)

    def init_fn():
        return GreedyState(
            best_value=jnp.array(jnp.inf, jnp.float32),
            good_windows=jnp.zeros((), jnp.int32),
            bad_windows=jnp.zeros((), jnp.int32),
            cooldown_left=jnp.zeros((), jnp.int32),
            warmup_left=jnp.zeros((), jnp.int32),
            reset_left=jnp.array(reset_after, jnp.int32),
            windows_since_reset=jnp.zeros((), jnp.int32),
            base=jnp.zeros((), jnp.float32),
        )

    def update_fn(observation, state):
        is_finite = jnp.isfinite(observation.value)
        windows = saturating_add(state.windows_since_reset, is_finite)
        smooth = history.mean(observation.history, jnp.minimum(windows, smoothing))
        value = jnp.where(is_finite, smooth, jnp.inf)

        # Cooldown goes first: warmup waits until it is over.
        is_cooling = state.cooldown_left > 0
        is_waiting = is_cooling | (state.warmup_left > 0)
        is_better = ~is_waiting & beats(value, state.best_value, rtol, atol)
        is_worse = ~is_waiting & ~is_better
        good = jnp.where(is_better, saturating_add(state.good_windows, 1), 0)
        bad = jnp.where(is_worse, saturating_add(state.bad_windows, 1), 0)
        goes_up, goes_down = good > patience, bad > patience

        low, high = state.base + jnp.log(min_scale), state.base + jnp.log(max_scale)
        step = jnp.log(factor)
        old = observation.log_scale
        # A factor outside the bounds stays put rather than jumping to them.
        raised = jnp.where(old < high, jnp.minimum(old - step, high), old)
        lowered = jnp.where(old > low, jnp.maximum(old + step, low), old)
        log_scale = jnp.where(goes_up, raised, jnp.where(goes_down, lowered, old))

        is_at_floor = goes_down & (lowered <= low)
        reset_left = state.reset_left - is_at_floor.astype(jnp.int32)
        reset_left = jnp.where(goes_up, reset_after, reset_left)
        resets = is_at_floor & (reset_left <= 0)
        best = jnp.where(is_better, value, state.best_value)
        cooldown_left = jnp.maximum(state.cooldown_left - 1, 0)
        warmup_left = jnp.maximum(
            state.warmup_left - (~is_cooling).astype(jnp.int32), 0
        )
        return jnp.where(resets, state.base, log_scale), GreedyState(
            best_value=jnp.where(resets, jnp.inf, best),
            good_windows=jnp.where(goes_up, 0, good),
            bad_windows=jnp.where(goes_down, 0, bad),
            cooldown_left=jnp.where(goes_down, cooldown, cooldown_left).astype(
                jnp.int32
            ),
            warmup_left=jnp.where(goes_up, warmup, warmup_left).astype(jnp.int32),
            reset_left=jnp.where(resets, reset_after, reset_left).astype(jnp.int32),
            windows_since_reset=jnp.where(resets, 0, windows),
            base=state.base,
        )

    def begin_fn(state, found):
        return state._replace(base=found.log_scale)

    return Controller(init_fn, update_fn, begin=begin_fn, name="greedy")
