"""Calibration: loss, noise and size of an update, while nothing moves."""

import math

import jax.numpy as jnp

from optax_adaptive._controller import Array
from optax_adaptive.controllers.search.settings import (
    RANGE_TEST,
    SearchSettings,
    SearchState,
    least_standard_deviation,
    opened,
)
from optax_adaptive.signals import history
from optax_adaptive.state.trees import saturating_add, select


def calibrate(
    state: SearchState,
    displacement: Array,
    gradient_size: Array,
    settings: SearchSettings,
) -> tuple[SearchState, Array]:
    """Measures loss and noise while nothing moves, and how far an update moves."""
    losses = state.losses[-settings.calibration_steps :]
    center = history.median(losses)
    deviations = jnp.abs(losses - center)
    # Spikes are cut: with so much noise, all rates would look equally good.
    deviations = jnp.minimum(deviations, settings.cut * history.median(deviations))
    mean_deviation = history.mean_without_largest(deviations)
    # Of a normal it is 0.8 standard deviations, and less without the largest.
    least = least_standard_deviation(center, settings)
    spread = 1.45 * mean_deviation
    standard_deviation = jnp.maximum(spread, least)
    # Until params have moved, the size of an update is not known, and the factor grows.
    is_sized = state.had_gradient & (displacement > 0.0)
    log_size = jnp.log(jnp.where(is_sized, displacement, 1.0)) - state.log_scale
    log_growth = jnp.where(state.had_gradient, math.log(settings.growth), 0.0)
    highest = state.log_scale + log_growth
    wanted = jnp.minimum(math.log(settings.first_move) - log_size, highest)
    log_scale = jnp.where(is_sized, wanted, highest)
    counts = is_sized & (
        state.clock > settings.calibration_steps - settings.sized_steps
    )
    counts &= displacement > 0.1 * settings.first_move
    has_gradient = (state.nonfinite == 0) & (gradient_size > 0.0)
    gradient_size = jnp.where(has_gradient, gradient_size, state.most_gradient)
    smallest = jnp.where(has_gradient, gradient_size, jnp.inf)
    state = state._replace(
        log_scale=log_scale,
        had_gradient=has_gradient,
        least_gradient=jnp.minimum(state.least_gradient, smallest),
        most_gradient=jnp.maximum(state.most_gradient, gradient_size),
        log_size_sum=state.log_size_sum + jnp.where(counts, log_size, 0.0),
        sizes=saturating_add(state.sizes, counts),
    )
    sizes = jnp.maximum(state.sizes, 1).astype(jnp.float32)
    start = math.log(settings.test_from) - state.log_size_sum / sizes
    unchanged = (1.0 - settings.gradient_noise) * state.most_gradient
    found = state.found._replace(
        first_value=center,
        standard_deviation=standard_deviation,
        has_noise=(state.least_gradient < unchanged)
        # Not the least one: of a loss that is exactly 0, that would be noise.
        | (spread > settings.loss_noise * jnp.abs(center)),
    )
    over = opened(state._replace(found=found), RANGE_TEST)
    is_over = (state.clock >= settings.calibration_steps) & (
        state.sizes >= settings.sized_steps
    )
    over = over._replace(log_scale=start)
    return select(is_over, over, state), log_scale
