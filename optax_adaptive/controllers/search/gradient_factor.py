"""Whether gradients are those of the value, by what they predict in the range test."""

import jax.numpy as jnp

from optax_adaptive._controller import Array, Observation
from optax_adaptive.controllers.search.settings import (
    RANGE_TEST,
    SearchSettings,
    SearchState,
)


def compare(
    state: SearchState, observation: Observation, settings: SearchSettings
) -> SearchState:
    """Sums the change of the loss, and the change that the gradients predict."""
    counts = (state.stage == RANGE_TEST) & observation.has_averaging_gap
    counts &= (state.nonfinite == 0) & ~state.is_waiting

    def added(total, newest):
        return jnp.where(counts, settings.forget * total + newest, total)

    change = observation.value - state.found.first_value
    # Just before the loss blows up, a prediction may be a hundred times too large.
    newest = jnp.maximum(observation.averaging_gap, state.least_predicted)
    is_clear = _has_clearly_decreased(state, settings)
    newest = jnp.where(is_clear, newest, observation.averaging_gap)
    predicted, seen = added(state.predicted, newest), added(state.seen, change)
    return state._replace(
        predicted=predicted,
        seen=seen,
        least_predicted=jnp.minimum(state.least_predicted, predicted),
        least_seen=jnp.minimum(state.least_seen, seen),
    )


def factor_of(state: SearchState, settings: SearchSettings) -> Array:
    """Size of the gradients over that of the value's own; 1 if they may be the same.

    To first order a step changes the loss by gradient · step: so the largest decrease
    that the gradients predict, over the largest seen, goes with that factor.
    """
    is_known = _has_clearly_decreased(state, settings)
    ratio = state.least_predicted / jnp.where(is_known, state.least_seen, 1.0)
    is_other = (ratio > settings.most_ratio) | (ratio < settings.least_ratio)
    is_other &= is_known & (ratio > 0.0)
    return jnp.where(is_other, ratio / settings.usual_ratio, 1.0)


def _has_clearly_decreased(state: SearchState, settings: SearchSettings) -> Array:
    clear = settings.clear_decrease * state.found.standard_deviation
    return state.least_seen < -clear
