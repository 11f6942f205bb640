"""The state of maintain after a rollback, a blow-up or a restart."""

import math

import jax.numpy as jnp

from optax_adaptive._controller import ROUNDING, Array, Observation
from optax_adaptive.controllers.maintain.rate_correction import Block
from optax_adaptive.controllers.maintain.settings import (
    MaintainSettings,
    MaintainState,
    first_state,
)
from optax_adaptive.state.trees import saturating_add


def restarted(
    state: MaintainState, observation: Observation, block: Block
) -> MaintainState:
    """The state that begins anew from the parameters at which the rule began."""
    return first_state()._replace(
        found=state.found,
        began=observation.step + 1,
        value_left=block.mean,
        restarts=jnp.ones((), jnp.bool_),
    )


def backed_off(
    state: MaintainState, log_scale: Array, settings: MaintainSettings
) -> tuple[MaintainState, Array]:
    """The state after a blow-up, from that after its rollback; the change of the rate.

    A rate that soon blows up again is far too high, and each attempt costs a rollback.
    One that was raised by hand returns to where it was, if that is further down. The
    lowest rate is not lowered, and nothing is to be undone later.
    """
    backoffs = jnp.where(is_soon(state), 2, 1)
    down = math.log(settings.back_off) * backoffs.astype(jnp.float32)
    to_proven = state.proven - log_scale
    is_by_hand = to_proven < down - ROUNDING
    is_lowest = log_scale <= floor(state, settings) + ROUNDING
    backoffs = jnp.where(is_by_hand | is_lowest, 0, backoffs)
    new = state._replace(
        blown_up_at=state.elapsed, backoffs=saturating_add(state.backoffs, backoffs)
    )
    return new, jnp.where(is_by_hand, to_proven, down)


def floor(state: MaintainState, settings: MaintainSettings) -> Array:
    """The lowest log factor."""
    return state.found.log_scale + math.log(settings.floor)


def is_soon(state: MaintainState) -> Array:
    """Whether less time has passed since a blow-up than before it."""
    return state.elapsed - state.blown_up_at < state.blown_up_at


def rolled_back(state: MaintainState) -> MaintainState:
    """The state after a rollback: what was normal before need not be so after it."""
    return first_state()._replace(
        found=state.found,
        began=state.began,
        elapsed=state.elapsed,
        blown_up_at=state.blown_up_at,
        backoffs=state.backoffs,
        proven=state.proven,
        value_left=state.value_left,
        last_change=state.last_change,
    )
