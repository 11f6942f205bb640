"""Bad losses in a search: is a batch to blame, or the rate that is tried?"""

import jax.numpy as jnp

from optax_adaptive._controller import Array
from optax_adaptive.controllers.search.settings import (
    RANGE_TEST,
    TRIAL,
    SearchSettings,
    SearchState,
)
from optax_adaptive.signals import history
from optax_adaptive.signals.window_statistics import LARGEST
from optax_adaptive.state.trees import saturating_add


def _tries_a_rate(state: SearchState) -> Array:
    return (state.stage == RANGE_TEST) | (state.stage == TRIAL)


def wild_above(state: SearchState, settings: SearchSettings) -> Array:
    """The loss above which a batch is bad, while rates are tried; else inf."""
    first, noise = state.found.first_value, state.found.standard_deviation
    wild = first + settings.wild * noise + settings.times * jnp.abs(first)
    return jnp.where(_tries_a_rate(state), wild, jnp.inf)


def watch(state: SearchState, value: Array, settings: SearchSettings) -> SearchState:
    """Takes in the newest loss, and finds out whose fault bad ones are.

    A loss is bad if it is not finite, or wild. A few bad ones only cost their steps.
    After more, the first parameters are restored: if the loss there is good at once,
    the rate was to blame, unless that is the first time in this stage. If not, the
    batches are: the search waits for a good loss. Then the stage goes on; a trial
    begins anew.
    """
    is_range_test = state.stage == RANGE_TEST
    is_finite = jnp.abs(value) <= LARGEST  # NaN compares false
    is_wild = is_finite & (value > wild_above(state, settings))
    is_finite &= ~is_wild
    is_resumed = state.is_waiting & is_finite
    is_suspected = is_resumed & ~state.is_acquitted
    is_lost = is_suspected & state.was_suspected
    is_again = is_resumed & ~is_lost & (state.stage == TRIAL)
    losses = jnp.where(is_resumed, state.found.first_value, state.losses)
    clock = saturating_add(jnp.where(is_again, 0, state.clock), is_finite)
    nonfinite = jnp.where(
        is_finite | state.is_waiting, 0, saturating_add(state.nonfinite, 1)
    )
    most = jnp.where(
        is_range_test & is_wild, settings.most_wild, settings.most_nonfinite
    )
    is_stopped = (nonfinite >= most) & _tries_a_rate(state)
    return state._replace(
        clock=clock,
        losses=history.push(losses, value, is_finite),
        nonfinite=nonfinite,
        is_waiting=(state.is_waiting & ~is_finite) | is_stopped,
        is_acquitted=state.is_waiting & (state.is_acquitted | ~is_finite),
        is_lost=is_lost,
        was_suspected=state.was_suspected | is_suspected,
        restores=is_stopped,
        is_warm=jnp.zeros_like(is_stopped),
    )
