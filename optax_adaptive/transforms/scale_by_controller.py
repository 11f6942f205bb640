"""scale_by_controller: asks a rule once per window, and multiplies updates."""

from typing import Any, Literal

import jax.numpy as jnp
import optax
from jax import lax

from optax_adaptive._controller import (
    Array,
    Controller,
    checked_request,
)
from optax_adaptive.signals import window_statistics
from optax_adaptive.state.controller_state import OBSERVED, ScaleByControllerState
from optax_adaptive.state.devices import (
    AVERAGE,
    check_same_on_devices,
    mean_over_devices,
)
from optax_adaptive.state.packing import (
    check_same_layout,
    check_size,
    overwrite,
    pack,
    unpack,
)
from optax_adaptive.state.placement import beside
from optax_adaptive.state.tag import Tag
from optax_adaptive.state.trees import as_arrays, multiply, saturating_add
from optax_adaptive.state.validation import (
    check_answer,
    check_choice,
    check_controller,
    check_count,
    check_range,
    check_state,
    is_concrete,
)
from optax_adaptive.transforms import _base_rate, _observation
from optax_adaptive.transforms._eager import compiled
from optax_adaptive.transforms._measured import Measured, check_needs
from optax_adaptive.transforms._observation import (
    Sizes,
    first_memory,
    make_observation,
    measure_sizes,
    record,
)


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
    """Multiplies updates by a factor that a rule derives from the loss.

    It belongs *after* the base optimizer in a chain: before Adam, a factor would be
    normalised away. After AdamW it scales the weight decay too, as a schedule does.

    Values are averaged over windows of ``accumulation_size`` steps, and the newest
    ``window`` means are kept. After each window the rule is asked for a new factor; the
    first factor is the rule's own. A value that is not finite, or above 1e37 in size,
    is skipped and counted; ``accumulation_size`` of them in a row end the window, which
    reaches the rule with the value inf. Within :func:`with_rollback`, only a spike that
    it blames on the rate ends a window so.

    Args:
      controller: The rule, from ``optax_adaptive.controllers`` or your own.
      accumulation_size: Values per window, an integer of at least 1. Defaults to the
        rule's own, mostly 20, or to 1 with ``feedback="observe"``. The standard error
        of a window of one value comes from the differences between windows. A rule that
        requests a window size, as ``learned`` does, overrides this one.
      window: How many window means the rule can look back on, at least 3. It sets a
        shape, so under ``optax.inject_hyperparams`` name it in ``static_args``.
      min_scale: Lower bound of the factor, at least 0.
      max_scale: Upper bound of the factor, at least ``min_scale``. The default leaves
        room for a range test from 1e-7 to where SGD diverges, at 100 or more.
      mode: ``"min"`` for a loss, ``"max"`` for a metric such as accuracy. It holds for
        ``value`` and for what :func:`observe` is given.
      feedback: ``"value"`` decides from the ``value`` of every update; ``"observe"``
        only from what :func:`observe` is given, and ``value`` is then not required.
      axis_name: Axis, or tuple of axes, over which to average what rules see, inside
        ``jax.pmap`` or ``jax.shard_map``. Under ``jax.jit`` the loss of a sharded batch
        is global already, and None is right.

    Returns:
      A transformation whose ``update`` takes the keyword ``value``: the scalar loss at
      the parameters *before* the update, in any real dtype. The factor is float32
      whatever the dtype of the parameters, and the rest of the state is one array of
      uint32; updates keep their dtypes. The keyword ``measured`` comes from
      :func:`with_averaging` and :func:`with_rollback`. What they measure is in units of
      the loss whose gradients they are given, so ``value`` must be that loss: for
      gradients of a sum, pass the sum.

    Raises:
      ValueError: If an argument is out of its range, or if a rule that needs wrappers
        is given ``feedback="observe"``. In ``update``: if ``value`` is not
        a scalar; if ``value``, or a size of updates that the rule uses, varies over a
        mesh axis; if the state is that of another rule or ``window``; if a wrapper that
        the rule needs is missing; or if ``mode="max"`` decides from ``value`` within
        :func:`with_rollback`.
      TypeError: If ``controller`` is not a :class:`Controller`; in ``init``, if its
        state is not made of 32-bit or bool arrays. In ``update``: if ``value`` is
        missing or complex, if the shapes of that state change, or if the rule returns
        anything but a log factor, its state and a :class:`Request`.

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
    default_size = check_count("accumulation_size", accumulation_size)
    if controller.needs and feedback == "observe":
        raise ValueError(
            f"the rule {controller.name!r} compares the loss with its gradients, at "
            "every step: it needs feedback='value', not 'observe'"
        )
    if not is_concrete(window):
        raise ValueError(
            "window sets a shape and cannot be traced; under inject_hyperparams pass "
            "static_args=('window',)"
        )
    window = check_count("window", window, 3)
    check_range("min_scale", min_scale, 0.0, open_high=True)
    if is_concrete(min_scale):
        check_range("max_scale", max_scale, min_scale, open_low=bool(min_scale == 0))
    sign = 1.0 if mode == "min" else -1.0

    def bounded(log_scale: Array) -> Array:
        scale = jnp.clip(jnp.exp(log_scale), min_scale, max_scale)
        return scale.astype(jnp.float32)

    layout = _observation.layout(controller, window)
    # What is remembered of a metric has its sign.
    name = controller.name if mode == "min" else f"{controller.name}-max"
    name = f"{name}-{window}"
    if feedback == "observe":  # its windows are of another metric
        name = f"{name}-{OBSERVED}"
    tag = Tag("the state of the rule and window", name)

    def init_fn(params: optax.Params) -> ScaleByControllerState:
        state = ScaleByControllerState(
            lr_scale=bounded(jnp.array(controller.initial_log_scale, jnp.float32)),
            controller_memory=tag.wrap(pack(first_memory(controller, window, mode))),
        )
        return beside(params, state)  # whose contents may be placeholders

    def size_in_force(statistics: window_statistics.WindowStatistics) -> Array:
        asked = statistics.request.accumulation_size
        return jnp.where(asked > 0, asked, default_size)

    def decide(lr_scale: Array, words: Array, sizes: Array) -> tuple[Array, Array]:
        read = memory = unpack(layout, words)
        statistics = memory.statistics
        # If it is not full, consecutive non-finite values have ended it.
        is_full = statistics.size >= size_in_force(statistics)
        is_finite = is_full & ~window_statistics.is_blown_up(statistics)
        memory = record(memory, is_finite, sign)
        # Of a factor of 0, from which no rule would come back, a tiny one.
        log_scale = jnp.log(jnp.maximum(lr_scale, jnp.finfo(jnp.float32).tiny))
        observation = make_observation(
            memory, is_finite, log_scale, Sizes(*sizes), sign, feedback == "observe"
        )
        answer = controller.update(observation, memory.controller_state)
        new_log_scale, controller_state = check_answer(controller.name, answer)
        check_same_layout(memory.controller_state, controller_state)
        used = f"the size of updates, which the rule {controller.name!r} uses,"
        check_same_on_devices(used, answer, (lr_scale, words), AVERAGE)
        # exp(log(x)) is not x: a factor that is kept must not drift. Nor must a rule
        # that fails, and returns what is not finite, poison it.
        is_nonfinite = ~jnp.isfinite(new_log_scale)
        is_kept = (new_log_scale == log_scale) | is_nonfinite
        lr_scale = jnp.where(is_kept, lr_scale, bounded(new_log_scale))
        request = checked_request(controller, controller_state)
        has_found = (statistics.request.probe != 0) & (request.probe == 0)
        statistics = window_statistics.open_window(memory.statistics)
        memory = memory._replace(
            statistics=statistics._replace(
                request=request,
                found_scale=jnp.where(has_found, lr_scale, statistics.found_scale),
                nonfinite_answers=saturating_add(
                    statistics.nonfinite_answers, is_nonfinite
                ),
            ),
            controller_state=controller_state,
        )
        return lr_scale, pack(memory, words, read)

    def keep(lr_scale: Array, words: Array, sizes: Array) -> tuple[Array, Array]:
        del sizes
        return lr_scale, words

    def with_step(
        statistics: window_statistics.WindowStatistics, value: Any, measured: Measured
    ) -> window_statistics.WindowStatistics:
        """The statistics with the value of this step, and what wrappers measured."""
        request = statistics.request
        no = jnp.zeros((), jnp.bool_)  # events count for the step that raised them
        statistics = statistics._replace(
            request=request._replace(restore=no, snapshot=no)
        )
        if feedback == "value":
            metric, is_new = window_statistics.as_metric(value), jnp.ones((), jnp.bool_)
            if measured.value is not None and measured.is_new is not None:
                metric, is_new = measured.value, measured.is_new
        else:
            is_new = statistics.is_validated
            metric = jnp.where(is_new, statistics.validation, 0.0)
            statistics = statistics._replace(is_validated=no)
        metric = mean_over_devices(metric, axis_name)
        check_same_on_devices("`value`", metric, statistics, AVERAGE)
        statistics = window_statistics.accumulate(statistics, metric, is_new)
        has_gap = measured.has_gap
        if measured.averaging_gap is None or has_gap is None:
            return statistics
        if feedback != "value" or mode != "min":
            return statistics  # gaps are in units of the loss
        gap = mean_over_devices(measured.averaging_gap, axis_name)
        slope = jnp.zeros_like(gap)
        if measured.return_slope is not None:
            slope = mean_over_devices(measured.return_slope, axis_name)
        is_measured = has_gap & is_new & (jnp.abs(metric) <= window_statistics.LARGEST)
        return window_statistics.add_gap(statistics, gap, slope, is_measured)

    def update_fn(
        updates, state, params=None, *, value=None, measured=None, **extra_args
    ):
        del params, extra_args
        updates = as_arrays(updates)
        measured = Measured() if measured is None else measured
        check_needs(controller, measured)
        check_state("scale_by_controller", state, ScaleByControllerState)
        if mode == "max" and feedback == "value" and measured.value is not None:
            raise ValueError(
                "with_rollback takes `value` for a loss, but mode is 'max': hand in "
                "the negated metric with mode='min', or use feedback='observe'"
            )
        words = tag.unwrap(state.controller_memory)
        check_size(layout, words, "this rule, with this window")
        read = unpack(window_statistics.LAYOUT, words)
        statistics = with_step(read, value, measured)
        size = size_in_force(statistics)
        most_nonfinite = size
        if feedback == "value" and measured.value is not None:
            # with_rollback skips the updates of non-finite values, and says whether the
            # rate is to blame; a probe finds that out by itself.
            is_probe = statistics.request.probe > 0
            most_nonfinite = jnp.where(is_probe, size, window_statistics.BLOWN_UP)
        is_due = statistics.size >= size
        is_due |= statistics.nonfinite_in_a_row >= most_nonfinite
        statistics, ratio = _base_rate.compare(statistics, measured.first_update_sizes)
        words = overwrite(words, statistics, read)
        # Passed in, not stored: XLA then removes what the rule does not use.
        sizes = jnp.stack(measure_sizes(updates, measured, ratio))
        sizes = mean_over_devices(sizes, axis_name)
        lr_scale, words = lax.cond(is_due, decide, keep, state.lr_scale, words, sizes)
        return multiply(updates, lr_scale * ratio), ScaleByControllerState(
            lr_scale, tag.wrap(words)
        )

    return optax.GradientTransformationExtraArgs(init_fn, compiled(update_fn))
