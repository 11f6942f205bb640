"""scale_by_controller: the only place that multiplies updates."""

from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax

from optax_adaptive import _history, _meter, _update_size
from optax_adaptive._controller import (
    ROUNDING,
    Array,
    Controller,
    ControllerState,
    Observation,
)
from optax_adaptive._leaves import as_arrays, wide
from optax_adaptive._pack import (
    check_same_layout,
    check_size,
    overwrite,
    pack,
    unpack,
)
from optax_adaptive._validate import (
    check_choice,
    check_controller,
    check_count,
    check_log_scale,
    check_range,
    check_real,
    is_concrete,
)


class ScaleByControllerState(NamedTuple):
    """State of :func:`scale_by_controller`: read it by ``lr_scale`` and ``summary``.

    Two leaves, since each costs dispatch time in every step: see ``_pack``.
    """

    lr_scale: Array  # shape=(), dtype=float32: the factor in force
    controller_memory: Array  # shape=(m,), dtype=uint32: a packed Memory


class Memory(NamedTuple):
    """All that a controller remembers; only a decision touches more than the meter."""

    meter: _meter.Meter  # first: it is read by ``_meter.LAYOUT`` alone
    history: Array  # shape=(window,), dtype=float32: window means, oldest first
    errors: Array  # shape=(window,), dtype=float32: their standard errors
    has_decided: Array  # shape=(), dtype=bool: was the rule asked before?
    controller_state: ControllerState


def scale_by_controller(
    controller: Controller,
    *,
    accumulation_size: int | Array | None = None,
    window: int = 32,
    min_scale: float | Array = 1e-8,
    max_scale: float | Array = 1e12,
    mode: Literal["min", "max"] = "min",
    feedback: Literal["value", "observe"] = "value",
    axis_name: Any = None,
) -> optax.GradientTransformationExtraArgs:
    """Multiplies updates by a factor that a rule draws from the loss.

    It belongs *after* the base optimizer in a chain: before Adam, a factor is
    normalised away. After AdamW it scales the weight decay too, as a schedule does.

    Values are averaged over ``accumulation_size`` steps, the newest ``window`` means
    are kept, and once for each mean the rule is asked for the new factor. The first
    factor is the rule's own. A value that is not finite, or above 1e37 in size, is left
    out of its window and counted; ``accumulation_size`` of them in a row reach the rule
    as one window of value inf.

    Args:
      controller: The rule, from ``optax_adaptive.controllers`` or your own.
      accumulation_size: Values a window, an integer of at least 1. Defaults to what the
        rule asks for, mostly 20, or to 1 with ``feedback="observe"``. A window of one
        value takes its standard error from the differences between windows.
      window: How many window means the rule can look back on, at least 3. It sets a
        shape, so under ``optax.inject_hyperparams`` name it in ``static_args``.
      min_scale: Lower bound of the factor, at least 0.
      max_scale: Upper bound of the factor, at least ``min_scale``. The default leaves
        room for a climb from 1e-7 to where an SGD diverges, at 100 and more.
      mode: ``"min"`` for a loss, ``"max"`` for a metric such as accuracy. It holds for
        ``value`` and for what :func:`observe` is given.
      feedback: ``"value"`` decides from the ``value`` of every update; ``"observe"``
        from what :func:`observe` is given alone, and then ``value`` is not required.
      axis_name: Axis over which to average what rules see, inside ``jax.pmap`` or
        ``jax.shard_map``. Under ``jax.jit`` the loss of a sharded batch is global
        already, and None is right.

    Returns:
      A transformation whose ``update`` takes the keyword ``value``: the scalar loss at
      the parameters *before* the update, in any real dtype. The factor is float32
      whatever the dtype of the parameters, and the rest of the state one array of
      uint32; updates keep their dtypes. The keyword ``noise_cost``,
      which :func:`with_averaging` hands in, is in units of the training loss: what a
      rule makes of it holds where ``value`` is that loss.

    Raises:
      ValueError: If an argument is out of its range, or, in ``update``, if ``value`` is
        not a scalar, or the state that of another rule or ``window``.
      TypeError: If ``controller`` is not a :class:`Controller`, or its state not of
        32-bit or bool arrays whose shapes stay the same, or, in ``update``, if
        ``value`` is missing or complex.

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
    check_controller("controller", controller)
    check_choice("mode", mode, ("min", "max"))
    check_choice("feedback", feedback, ("value", "observe"))
    if accumulation_size is None:
        own = controller.accumulation_size
        accumulation_size = own if feedback == "value" else 1
    check_count("accumulation_size", accumulation_size)
    if not is_concrete(window):
        raise ValueError(
            "window sets a shape and cannot be traced; under inject_hyperparams pass "
            "static_args=('window',)"
        )
    check_count("window", window, 3)
    window = int(window)
    check_range("min_scale", min_scale, 0.0, open_high=True)
    if is_concrete(min_scale):
        check_range("max_scale", max_scale, min_scale, open_low=bool(min_scale == 0))
    sign = 1.0 if mode == "min" else -1.0

    def bounded(log_scale: Array) -> Array:
        scale = jnp.clip(jnp.exp(log_scale), min_scale, max_scale)
        return scale.astype(jnp.float32)

    def first_memory() -> Memory:
        controller_state = controller.init()
        number = jnp.asarray(controller.trial(controller_state), jnp.int32)
        return Memory(
            meter=_meter.first(mode)._replace(trial=number),
            history=jnp.zeros((window,), jnp.float32),
            errors=jnp.zeros((window,), jnp.float32),
            has_decided=jnp.zeros((), jnp.bool_),
            controller_state=controller_state,
        )

    layout = jax.eval_shape(first_memory)

    def init_fn(params: optax.Params) -> ScaleByControllerState:
        del params  # Its contents may be placeholders.
        return ScaleByControllerState(
            lr_scale=bounded(jnp.array(controller.initial_log_scale, jnp.float32)),
            controller_memory=pack(first_memory()),
        )

    def record(memory: Memory, is_finite: Array) -> Memory:
        """Moves the open window, if it is finite, into the history."""
        meter = memory.meter
        windows = meter.windows + is_finite.astype(jnp.int32)
        history = _history.push(memory.history, meter.mean, is_finite)
        if is_concrete(accumulation_size) and accumulation_size > 1:
            error = _meter.standard_error(meter)
        else:
            error = jnp.where(
                meter.size > 1,
                _meter.standard_error(meter),
                _history.difference_error(history, jnp.minimum(windows, window)),
            )
        is_better = is_finite & (sign * meter.mean < sign * meter.best)
        return memory._replace(
            meter=meter._replace(
                windows=windows,
                last=jnp.where(is_finite, meter.mean, meter.last),
                best=jnp.where(is_better, meter.mean, meter.best),
            ),
            history=history,
            errors=_history.push(memory.errors, error, is_finite),
        )

    def handed_over(memory: Memory, log_scale: Array) -> ControllerState:
        """The rule's state, told of another factor than its own at the first time."""
        state = memory.controller_state
        begun = controller.begin(state, log_scale)
        check_same_layout(state, begun, "begin")
        own = jnp.log(bounded(jnp.asarray(controller.initial_log_scale, jnp.float32)))
        is_other = ~memory.has_decided & (jnp.abs(log_scale - own) > ROUNDING)
        return optax.tree.where(is_other, begun, state)

    def decide(lr_scale: Array, words: Array, size: Array) -> tuple[Array, Array]:
        memory = unpack(layout, words)
        meter = memory.meter
        is_full = meter.size >= accumulation_size  # else it is all non-finite
        is_finite = is_full & ~_meter.is_blown_up(meter)
        value = jnp.where(is_finite, sign * meter.mean, jnp.inf)
        memory = record(memory, is_finite)
        log_scale = jnp.log(lr_scale)
        # With feedback="observe" an observation is what made the decision due.
        is_validated = meter.is_validated | (feedback == "observe")
        is_validated &= jnp.abs(meter.validation) <= _meter.LARGEST
        observation = Observation(
            step=meter.step - 1,
            value=value,
            history=memory.history if mode == "min" else -memory.history,
            mask=_history.filled(window, memory.meter.windows),
            standard_error=memory.errors,
            validation=jnp.where(is_validated, sign * meter.validation, 0.0),
            is_validated=is_validated,
            log_scale=log_scale,
            update_size=size,
            noise_cost=_meter.mean_cost(meter),
            has_noise_cost=meter.costs_size > 0,
        )
        new_log_scale, controller_state = controller.update(
            observation, handed_over(memory, log_scale)
        )
        check_same_layout(memory.controller_state, controller_state, "update")
        check_log_scale(new_log_scale)
        # exp(log(x)) is not x: a rule that holds must not let the factor drift.
        # Nor may a rule that fails, with a NaN, poison it.
        is_held = (new_log_scale == log_scale) | jnp.isnan(new_log_scale)
        lr_scale = jnp.where(is_held, lr_scale, bounded(new_log_scale))
        number = jnp.asarray(controller.trial(controller_state), jnp.int32)
        memory = memory._replace(
            meter=_meter.open_window(memory.meter)._replace(trial=number),
            has_decided=jnp.ones((), jnp.bool_),
            controller_state=controller_state,
        )
        return lr_scale, pack(memory)

    def keep(lr_scale: Array, words: Array, size: Array) -> tuple[Array, Array]:
        del size
        return lr_scale, words

    def update_fn(
        updates, state, params=None, *, value=None, noise_cost=None, **extra_args
    ):
        del params, extra_args
        updates = as_arrays(updates)
        check_size(layout, state.controller_memory, "this rule, with this window")
        meter = unpack(_meter.LAYOUT, state.controller_memory)
        if feedback == "value":
            metric, is_new = as_metric(value), jnp.ones((), jnp.bool_)
        else:
            metric, is_new = meter.validation, meter.is_validated
            meter = meter._replace(is_validated=jnp.zeros((), jnp.bool_))
        if axis_name is not None:
            metric = lax.pmean(metric, axis_name)
        meter = _meter.accumulate(meter, metric, is_new)
        if noise_cost is not None and feedback == "value" and mode == "min":
            cost = noise_cost.value  # in units of the loss
            if axis_name is not None:
                cost = lax.pmean(cost, axis_name)
            is_measured = noise_cost.is_new & (jnp.abs(metric) <= _meter.LARGEST)
            meter = _meter.add_cost(meter, cost, is_measured)
        is_due = (meter.size >= accumulation_size) | (meter.run >= accumulation_size)
        words = overwrite(state.controller_memory, meter)
        # XLA leaves it out where the rule does not look: so it is not remembered.
        size = _update_size.largest_entry(updates)
        if axis_name is not None:  # or devices would decide each by its own part
            size = lax.pmean(size, axis_name)
        # `decide` and `keep` keep their identity, or eager calls would trace anew.
        lr_scale, words = lax.cond(is_due, decide, keep, state.lr_scale, words, size)
        return multiply(updates, lr_scale), ScaleByControllerState(lr_scale, words)

    return optax.GradientTransformationExtraArgs(init_fn, update_fn)


def as_metric(value: Any) -> Array:
    """The metric as float32 of shape (), or a clear error."""
    if value is None:
        raise TypeError(
            "update() needs the keyword `value`: pass the loss, as in "
            "tx.update(grads, opt_state, params, value=loss)"
        )
    check_real("value", value)
    value = _meter.as_float32(value)
    if value.ndim:
        raise ValueError(
            f"`value` must be a scalar, but its shape is {value.shape}; average it "
            "first, as in value=loss.mean()"
        )
    return lax.stop_gradient(value)


def multiply(updates: optax.Updates, lr_scale: Array) -> optax.Updates:
    """Multiplies every leaf in at least float32, and keeps its dtype."""

    def scaled(update):
        # At least float32: a factor of 1e-8 vanishes in float16.
        dtype = wide(update.dtype)
        return (update.astype(dtype) * lr_scale.astype(dtype)).astype(update.dtype)

    return jax.tree.map(scaled, updates)
