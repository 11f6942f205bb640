"""The range test: the largest stable rate, and where the loss was lowest."""

import math

import jax.numpy as jnp

from optax_adaptive._controller import Array
from optax_adaptive.controllers.search import gradient_factor
from optax_adaptive.controllers.search.settings import (
    CANDIDATES,
    Lengths,
    SearchSettings,
    SearchState,
    opened,
)
from optax_adaptive.signals import history
from optax_adaptive.state.trees import select


def test_range(
    state: SearchState, settings: SearchSettings, sized: Lengths
) -> tuple[SearchState, Array]:
    """Raises the rate each step until the loss is worse than at the start."""
    steps_up = state.clock.astype(jnp.float32) - 1.0
    log_scale = state.log_scale + steps_up * (math.log(10.0) / sized.decade)
    first_value = state.found.first_value
    standard_deviation = state.found.standard_deviation
    median = history.median(state.losses[-5:])
    is_low = median < first_value - 2.0 * standard_deviation
    has_descended = state.has_descended | is_low
    lowest = jnp.minimum(state.lowest, median)
    is_lowest = median <= lowest + settings.as_low * standard_deviation
    lowest_at = jnp.where(is_lowest, log_scale, state.lowest_at)
    # Before anything has moved, noise must not end the test.
    margin = jnp.where(has_descended, 3.0, 10.0) * standard_deviation
    is_risen = jnp.min(state.losses[-3:]) > first_value + margin
    top = math.log10(settings.test_to / settings.test_from) * sized.decade
    is_unstable = is_risen | state.is_lost
    is_over = is_unstable | (steps_up >= top)
    state = state._replace(
        has_descended=has_descended,
        lowest=lowest,
        lowest_at=lowest_at,
    )
    found = state.found._replace(
        gradient_factor=gradient_factor.factor_of(state, settings)
    )
    # How far the first candidate is below the last rate, in ratios.
    below = log_scale - lowest_at - math.log(settings.above_lowest)
    below = jnp.where(
        is_unstable | ~has_descended, 0.0, below / math.log(settings.ratio)
    )
    over = opened(state._replace(found=found), CANDIDATES)._replace(
        log_scale=log_scale,
        # If it ends before its last step, rates that ruin the network raise the loss.
        lowest=jnp.where(steps_up < top, jnp.inf, state.lowest),
        first_candidate=jnp.maximum(below, settings.first_candidate),
        was_suspected=jnp.zeros((), jnp.bool_),
        restores=jnp.ones((), jnp.bool_),
    )
    return select(is_over, over, state), log_scale
