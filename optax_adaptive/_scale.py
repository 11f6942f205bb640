"""scale_by_controller: the only place that multiplies updates."""

from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax

from optax_adaptive import _history
from optax_adaptive._controller import Array, Controller, ControllerState, Observation
from optax_adaptive._validate import check_choice, check_count, check_range, is_concrete

# Sums of a few such values stay below float32's largest number, 3.4e38.
_LARGEST_METRIC = 1e37


class ScaleByControllerState(NamedTuple):
    """State of :func:`scale_by_controller`. Metrics are kept as they were handed in."""

    lr_scale: Array  # shape=(), dtype=float32: the factor in force
    controller_state: ControllerState
    metric_history: Array  # shape=(window,), dtype=float32: oldest first
    metric_errors: Array  # shape=(window,), dtype=float32: standard errors
    best_metric: Array  # shape=(), dtype=float32: best window mean; ±inf before one
    windows_seen: Array  # shape=(), dtype=int32: window means recorded so far
    window_size: Array  # shape=(), dtype=int32: values in the open window
    window_mean: Array  # shape=(), dtype=float32
    window_m2: Array  # shape=(), dtype=float32: sum of squared deviations
    nonfinite_run: Array  # shape=(), dtype=int32: non-finite values in a row
    nonfinite_seen: Array  # shape=(), dtype=int32: non-finite values so far
    validation_metric: Array  # shape=(), dtype=float32: newest observe()d value
    is_validated: Array  # shape=(), dtype=bool: was it observed since its last use?
    update_step: Array  # shape=(), dtype=int32: updates so far


def scale_by_controller(
    controller: Controller,
    *,
    accumulation_size: int | Array | None = None,
    window: int = 32,
    min_scale: float | Array = 1e-8,
    max_scale: float | Array = 1e8,
    mode: Literal["min", "max"] = "min",
    feedback: Literal["value", "observe"] = "value",
    axis_name: Any = None,
) -> optax.GradientTransformationExtraArgs:
    """Multiplies updates by a factor that a rule draws from the loss.

    It belongs *after* the base optimizer in a chain: before Adam, a factor is
    normalised away. After AdamW it scales the weight decay too, as a schedule does.

    Values are averaged over ``accumulation_size`` steps, the newest ``window`` means
    are kept, and once for each mean the rule is asked for the new factor. The first
    factor is the rule's own. A non-finite value is left out of its window and counted;
    ``accumulation_size`` of them in a row reach the rule as one window of value inf.

    Args:
      controller: The rule, from ``optax_adaptive.controllers`` or your own.
      accumulation_size: Values a window, an integer of at least 1. Defaults to 20, or
        to 1 with ``feedback="observe"``. A window of one value takes its standard
        error from the differences between windows.
      window: How many window means the rule can look back on, at least 3. It sets a
        shape, so under ``optax.inject_hyperparams`` name it in ``static_args``.
      min_scale: Lower bound of the factor, at least 0.
      max_scale: Upper bound of the factor, at least ``min_scale``.
      mode: ``"min"`` for a loss, ``"max"`` for a metric such as accuracy. It holds for
        ``value`` and for what :func:`observe` is given.
      feedback: ``"value"`` decides from the ``value`` of every update; ``"observe"``
        from what :func:`observe` is given alone, and then ``value`` is not required.
      axis_name: Axis over which to average the metric, inside ``jax.pmap`` or
        ``jax.shard_map``. Under ``jax.jit`` the loss of a sharded batch is global
        already, and None is right.

    Returns:
      A transformation whose ``update`` takes the keyword ``value``: the scalar loss at
      the parameters *before* the update, in any real dtype. State is float32 whatever
      the dtype of the parameters; updates keep theirs.

    Raises:
      ValueError: If an argument is out of its range, or, in ``update``, if ``value`` is
        not a scalar.
      TypeError: If ``controller`` is not a :class:`Controller`, or, in ``update``, if
        ``value`` is missing.

    Example:
      >>> import jax, jax.numpy as jnp, optax, optax_adaptive
      >>> from optax_adaptive import controllers
      >>> tx = optax.chain(
      ...     optax.sgd(1.0),
      ...     optax_adaptive.scale_by_controller(
      ...         controllers.plateau(factor=0.5, patience=2), accumulation_size=1
      ...     ),
      ... )
      >>> params = jnp.array(1.0)
      >>> state = tx.init(params)
      >>> for _ in range(4):
      ...     updates, state = tx.update(jnp.array(1.0), state, params, value=3.0)
      >>> float(optax_adaptive.lr_scale(state)), float(updates)
      (0.5, -0.5)
    """
    if not isinstance(controller, Controller):
        raise TypeError(
            f"controller must be a Controller, but it is {controller!r}; call the "
            "rule's factory first, as in controllers.plateau()"
        )
    check_choice("mode", mode, ("min", "max"))
    check_choice("feedback", feedback, ("value", "observe"))
    if accumulation_size is None:
        accumulation_size = 20 if feedback == "value" else 1
    check_count("accumulation_size", accumulation_size)
    if not is_concrete(window):
        raise ValueError(
            "window sets a shape and cannot be traced; under inject_hyperparams pass "
            "static_args=('window',)"
        )
    check_count("window", window, 3)
    check_range("min_scale", min_scale, 0.0)
    if is_concrete(min_scale):
        check_range("max_scale", max_scale, min_scale, open_low=min_scale == 0)
    sign = 1.0 if mode == "min" else -1.0

    def bounded(log_scale: Array) -> Array:
        scale = jnp.clip(jnp.exp(log_scale), min_scale, max_scale)
        return scale.astype(jnp.float32)

    def init_fn(params: optax.Params) -> ScaleByControllerState:
        del params  # Its contents may be placeholders.
        return ScaleByControllerState(
            lr_scale=bounded(jnp.array(controller.initial_log_scale, jnp.float32)),
            controller_state=controller.init(),
            metric_history=jnp.zeros((window,), jnp.float32),
            metric_errors=jnp.zeros((window,), jnp.float32),
            best_metric=jnp.array(sign * jnp.inf, jnp.float32),
            windows_seen=jnp.zeros((), jnp.int32),
            window_size=jnp.zeros((), jnp.int32),
            window_mean=jnp.zeros((), jnp.float32),
            window_m2=jnp.zeros((), jnp.float32),
            nonfinite_run=jnp.zeros((), jnp.int32),
            nonfinite_seen=jnp.zeros((), jnp.int32),
            validation_metric=jnp.zeros((), jnp.float32),
            is_validated=jnp.zeros((), jnp.bool_),
            update_step=jnp.zeros((), jnp.int32),
        )

    def accumulate(state, metric, is_new):
        # A NaN compares false: it is not finite either.
        is_finite = is_new & (jnp.abs(metric) <= _LARGEST_METRIC)
        is_nonfinite = is_new & ~is_finite
        size = state.window_size + is_finite.astype(jnp.int32)
        # Welford, 1962: a running mean of squares would cancel in float32.
        delta = jnp.where(is_finite, metric, 0.0) - state.window_mean
        mean = state.window_mean + delta / jnp.maximum(size, 1).astype(jnp.float32)
        m2 = state.window_m2 + delta * (delta + state.window_mean - mean)
        m2 = jnp.minimum(m2, jnp.finfo(jnp.float32).max)
        run = state.nonfinite_run + is_nonfinite.astype(jnp.int32)
        return state._replace(
            window_size=size,
            window_mean=jnp.where(is_finite, mean, state.window_mean),
            window_m2=jnp.where(is_finite, m2, state.window_m2),
            nonfinite_run=jnp.where(is_finite, 0, run),
            nonfinite_seen=state.nonfinite_seen + is_nonfinite.astype(jnp.int32),
        )

    def record(state):
        """Moves the open window into the history, if it holds a finite value."""
        is_blown_up = state.window_size < accumulation_size
        size = state.window_size.astype(jnp.float32)
        history = _history.push(state.metric_history, state.window_mean)
        variance = state.window_m2 / jnp.maximum(size - 1, 1)
        seen = state.windows_seen + 1
        error = jnp.where(
            size > 1,
            jnp.sqrt(variance / jnp.maximum(size, 1)),
            _history.difference_error(history, _mask(seen)),
        )
        is_better = sign * state.window_mean < sign * state.best_metric
        recorded = state._replace(
            metric_history=history,
            metric_errors=_history.push(state.metric_errors, error),
            best_metric=jnp.where(is_better, state.window_mean, state.best_metric),
            windows_seen=seen,
        )
        return is_blown_up, jax.tree.map(
            lambda old, new: jnp.where(is_blown_up, old, new), state, recorded
        )

    def _mask(seen):
        return _history.newest(jnp.ones((window,), jnp.bool_), seen)

    def decide(state):
        is_blown_up, state = record(state)
        old_log_scale = jnp.log(state.lr_scale)
        is_validated = state.is_validated & jnp.isfinite(state.validation_metric)
        observation = Observation(
            step=state.update_step,
            value=jnp.where(is_blown_up, jnp.inf, sign * state.window_mean),
            history=sign * state.metric_history,
            mask=_mask(state.windows_seen),
            standard_error=state.metric_errors,
            validation=jnp.where(is_validated, sign * state.validation_metric, 0.0),
            is_validated=is_validated,
            log_scale=old_log_scale,
        )
        log_scale, controller_state = controller.update(
            observation, state.controller_state
        )
        # exp(log(x)) is not x: a rule that holds must not let the factor drift.
        is_held = (log_scale == old_log_scale) | jnp.isnan(log_scale)
        return state._replace(
            lr_scale=jnp.where(is_held, state.lr_scale, bounded(log_scale)),
            controller_state=controller_state,
            window_size=jnp.zeros((), jnp.int32),
            window_mean=jnp.zeros((), jnp.float32),
            window_m2=jnp.zeros((), jnp.float32),
            nonfinite_run=jnp.zeros((), jnp.int32),
            is_validated=jnp.zeros((), jnp.bool_),
        )

    def keep(state):
        return state

    def update_fn(updates, state, params=None, *, value=None, **extra_args):
        del params, extra_args
        if feedback == "value":
            metric, is_new = _as_metric(value), jnp.ones((), jnp.bool_)
        else:
            metric, is_new = state.validation_metric, state.is_validated
        if axis_name is not None:
            metric = lax.pmean(metric, axis_name)
        state = accumulate(state, metric, is_new)
        is_due = (state.window_size >= accumulation_size) | (
            state.nonfinite_run >= accumulation_size
        )
        # `decide` and `keep` keep their identity, or eager calls would trace anew.
        state = lax.cond(is_due, decide, keep, state)
        if feedback == "observe":
            state = state._replace(is_validated=jnp.zeros((), jnp.bool_))
        state = state._replace(update_step=optax.safe_increment(state.update_step))
        return _multiply(updates, state.lr_scale), state

    return optax.GradientTransformationExtraArgs(init_fn, update_fn)


def _as_metric(value: Any) -> Array:
    if value is None:
        raise TypeError(
            "update() needs the keyword `value`: pass the loss, as in "
            "tx.update(grads, opt_state, params, value=loss)"
        )
    value = jnp.asarray(value)
    if value.ndim:
        raise ValueError(
            f"`value` must be a scalar, but its shape is {value.shape}; average it "
            "first, as in value=loss.mean()"
        )
    if jnp.issubdtype(value.dtype, jnp.complexfloating):
        raise TypeError(f"`value` must be real, but its dtype is {value.dtype}")
    return lax.stop_gradient(value).astype(jnp.float32)


def _multiply(updates: optax.Updates, lr_scale: Array) -> optax.Updates:
    def scaled(update):
        # At least float32: a factor of 1e-8 vanishes in float16.
        dtype = jnp.promote_types(update.dtype, jnp.float32)
        return (update.astype(dtype) * lr_scale.astype(dtype)).astype(update.dtype)

    return jax.tree.map(scaled, updates)
