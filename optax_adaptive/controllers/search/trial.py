"""The trial: a run whose rate rises from 0, and what its noise says of the rate.

The averaging gap, over the decrease of the loss, tells how far the rate at which the
gradient turns is from the best one. If that is not far below the rate reached, the run
goes on from the trial.
"""

import math

import jax.numpy as jnp

from optax_adaptive._controller import Array
from optax_adaptive.controllers.search.settings import (
    MOST_TRIALS,
    TINY,
    TRIAL,
    WARM_UP,
    Lengths,
    SearchSettings,
    SearchState,
    has_risen,
    opened,
)
from optax_adaptive.state.trees import saturating_add, select


def run_trial(
    state: SearchState,
    averaging_gap: Array,
    has_gap: Array,
    settings: SearchSettings,
    sized: Lengths,
) -> tuple[SearchState, Array]:
    """A step of a trial; at its end the rate is found, or a lower one is tried."""
    log_scale = risen(state)
    is_lost = state.is_lost | has_risen(state, 3.0)
    is_late = state.clock > sized.trial - sized.part
    is_first = state.clock <= 1  # also where bad losses made the trial begin anew
    gaps = saturating_add(jnp.where(is_first, 0, state.gaps), is_late & has_gap)
    total = jnp.where(is_first, 0.0, state.gap_sum)
    total += jnp.where(is_late & has_gap, averaging_gap, 0.0)
    state = state._replace(gap_sum=total, gaps=gaps)
    turned_at = state.log_scale + math.log(sized.rise)
    log_factor = _log_factor(state, settings, sized)
    least = math.log(settings.least_factor)
    bounded = jnp.clip(log_factor, least, math.log(settings.most_factor))
    found = jnp.where(
        is_lost,
        log_scale - math.log(settings.below_end),
        turned_at + bounded,
    )
    again = is_lost | (log_factor < least)
    again &= state.trials < MOST_TRIALS - 1
    keeps = ~is_lost & (found > log_scale + math.log(settings.keep_above))
    # A warm-up rises as steeply as the trial did; to a rate above the turning one, in
    # ``rise`` steps. A trial that is repeated takes as long as the first.
    first = found - math.log(sized.rise)
    first = jnp.where(again, first, jnp.maximum(first, state.log_scale))
    done = jnp.round(jnp.exp(log_scale - first)).astype(jnp.int32)
    ended = opened(state, WARM_UP)._replace(
        stage=jnp.where(again, TRIAL, WARM_UP).astype(jnp.int32),
        trials=saturating_add(state.trials, 1),
        clock=jnp.where(keeps, done, 0),
        log_scale=first,
        restores=~keeps,
        found=state.found._replace(log_scale=found),
    )
    is_over = is_lost | (state.clock >= sized.trial)
    return select(is_over, ended, state), log_scale


def risen(state: SearchState) -> Array:
    """The log factor in a trial or warm-up, which rises in proportion to the steps."""
    return state.log_scale + jnp.log(jnp.maximum(state.clock, 1).astype(jnp.float32))


def _log_factor(state: SearchState, settings: SearchSettings, sized: Lengths) -> Array:
    """The log of the rate found over that at which the gradient turns."""
    means = state.losses[-2 * sized.part :].reshape(2, sized.part).mean(1)
    error = state.found.standard_deviation * math.sqrt(2.0 / sized.part)
    decrease = jnp.maximum(means[0] - means[1] + settings.errors * error, TINY)
    gap = state.gap_sum / jnp.maximum(state.gaps, 1).astype(jnp.float32)
    gap /= state.found.gradient_factor
    ratio = jnp.clip(gap / decrease, TINY, 1.0 / TINY)
    return math.log(settings.even_factor) - settings.power * jnp.log(ratio)
