"""The range test: the rate at which the gradient turns.

(params - first params) · gradient is below 0 while going back would raise the loss. It
turns positive at a rate that differs by a factor of 1.5 from seed to seed, also in deep
networks whose losses tell nothing yet. To D-Adaptation (Defazio and Mishchenko, 2023),
sums of such products say how far the solution is.
"""

import math

import jax.numpy as jnp

from optax_adaptive._controller import Array
from optax_adaptive.controllers.search import gradient_factor
from optax_adaptive.controllers.search.settings import (
    TRIAL,
    Lengths,
    SearchSettings,
    SearchState,
    has_risen,
    opened,
)
from optax_adaptive.signals import history
from optax_adaptive.state.trees import select


def run_range_test(
    state: SearchState, settings: SearchSettings, sized: Lengths
) -> tuple[SearchState, Array]:
    """Raises the rate each step until the gradient has turned, or the loss is worse."""
    steps_up = state.clock.astype(jnp.float32) - 1.0
    log_scale = state.log_scale + steps_up * (math.log(10.0) / settings.decade)
    standard_deviation = state.found.standard_deviation
    median = history.median(state.losses[-5:])
    is_low = median < state.found.first_value - 2.0 * standard_deviation
    has_descended = state.has_descended | is_low
    # Before anything has moved, noise must not end the test.
    is_risen = has_risen(state, jnp.where(has_descended, 3.0, 10.0))
    top = math.log10(settings.test_to / settings.test_from) * settings.decade
    # Where noise hides the descent, the turn itself may be clear.
    clear = settings.clear_slope * standard_deviation
    is_turned = (state.least_predicted < -clear) & (state.predicted > 0.0)
    is_turned |= state.predicted > clear
    turned = jnp.where(is_turned, state.turned + 1, 0)
    turned_at = jnp.where(turned == 1, log_scale, state.turned_at)
    is_over = is_risen | state.is_lost | (steps_up >= top)
    is_over |= turned >= settings.turned_steps
    # Where it has not turned, the test has gone too far nevertheless.
    below = log_scale - math.log(settings.below_end)
    turned_at = jnp.where(is_over & (turned == 0), below, turned_at)
    state = state._replace(
        has_descended=has_descended, turned=turned, turned_at=turned_at
    )
    found = state.found._replace(
        gradient_factor=gradient_factor.factor_of(state, settings)
    )
    over = opened(state._replace(found=found), TRIAL)._replace(
        log_scale=turned_at - math.log(sized.rise),
        was_suspected=jnp.zeros((), jnp.bool_),
        restores=jnp.ones((), jnp.bool_),
    )
    return select(is_over, over, state), log_scale
