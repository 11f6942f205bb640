"""What a rule sees, made from a window of values that has ended."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from optax_adaptive._controller import (
    Array,
    Controller,
    ControllerState,
    Observation,
    checked_request,
)
from optax_adaptive.signals import window_statistics
from optax_adaptive.signals.history import difference_error, filled, push
from optax_adaptive.signals.update_size import largest_entry
from optax_adaptive.state.trees import saturating_add
from optax_adaptive.transforms._measured import Measured


class Memory(NamedTuple):
    """All that is remembered; only a decision touches what is not statistics."""

    # First, so that ``window_statistics.LAYOUT`` reads it without the rest.
    statistics: window_statistics.WindowStatistics
    history: Array  # shape=(window,), dtype=float32: window means, oldest first
    errors: Array  # shape=(window,), dtype=float32: their standard errors
    controller_state: ControllerState


def first_memory(controller: Controller, window: int, mode: str = "min") -> Memory:
    """Before the first step, of a rule that looks back on so many windows."""
    controller_state = controller.init()
    request = checked_request(controller, controller_state)
    return Memory(
        statistics=window_statistics.first(mode)._replace(request=request),
        history=jnp.zeros((window,), jnp.float32),
        errors=jnp.zeros((window,), jnp.float32),
        controller_state=controller_state,
    )


def layout(controller: Controller, window: int) -> Memory:
    """The shapes and dtypes by which ``packing.unpack`` reads a memory."""
    return jax.eval_shape(lambda: first_memory(controller, window))


class Sizes(NamedTuple):
    """What is measured of updates at the step of a decision; 0 if it is not."""

    # each shape=(), dtype=float32
    update: Array  # largest |entry| in one leaf of the optimizer's update
    gradient: Array  # and in a sample of the gradients
    displacement: Array  # |update| / (1 + |params|), while a rule calibrates


def measure_sizes(
    updates: optax.Updates, measured: Measured, ratio: float | Array
) -> Sizes:
    """The sizes at this step; ``ratio`` makes updates those of the first base rate."""
    size = largest_entry(updates) * ratio
    none = jnp.zeros((), jnp.float32)
    gradient, displacement = measured.gradient_size, measured.displacement
    return Sizes(
        update=jnp.where(jnp.isfinite(size), size, 0.0),
        gradient=none if gradient is None else gradient,
        displacement=none if displacement is None else displacement,
    )


def record(memory: Memory, is_finite: Array, sign: float) -> Memory:
    """Moves the open window, if it is finite, into the history."""
    statistics, size = memory.statistics, memory.history.shape[0]
    windows = saturating_add(statistics.windows, is_finite)
    history = push(memory.history, statistics.mean, is_finite)
    error = jnp.where(
        statistics.size > 1,
        window_statistics.standard_error(statistics),
        difference_error(history, jnp.minimum(windows, size)),
    )
    is_better = is_finite & (sign * statistics.mean < sign * statistics.best)
    return memory._replace(
        statistics=statistics._replace(
            windows=windows,
            last=jnp.where(is_finite, statistics.mean, statistics.last),
            best=jnp.where(is_better, statistics.mean, statistics.best),
        ),
        history=history,
        errors=push(memory.errors, error, is_finite),
    )


def make_observation(
    memory: Memory,
    is_finite: Array,
    log_scale: Array,
    sizes: Sizes,
    sign: float,
    is_always_validated: bool,
) -> Observation:
    """What the rule sees, from a memory that has recorded the open window.

    Args:
      memory: The memory.
      is_finite: Whether the open window holds a mean.
      log_scale: Log of the factor in force.
      sizes: At this step.
      sign: 1, or -1 where a larger metric is better.
      is_always_validated: Whether every decision follows an observed metric.
    """
    statistics = memory.statistics
    # After a blow-up, a rule may have to decide without a new metric.
    is_validated = statistics.is_validated | (is_finite & is_always_validated)
    is_validated &= jnp.abs(statistics.validation) <= window_statistics.LARGEST
    gap, slope = window_statistics.mean_gap(statistics)
    return Observation(
        step=statistics.step - 1,
        value=jnp.where(is_finite, sign * statistics.mean, jnp.inf),
        history=memory.history if sign > 0 else -memory.history,
        mask=filled(memory.history.shape[0], statistics.windows),
        standard_error=memory.errors,
        validation=jnp.where(is_validated, sign * statistics.validation, 0.0),
        is_validated=is_validated,
        log_scale=log_scale,
        update_size=sizes.update,
        gradient_size=sizes.gradient,
        displacement=sizes.displacement,
        averaging_gap=gap,
        has_averaging_gap=statistics.gaps_size > 0,
        return_slope=slope,
        is_rolled_back=statistics.is_rolled_back,
    )
