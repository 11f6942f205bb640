"""anchored: the factors of two rules multiplied, one moving around the other."""

from typing import NamedTuple

import jax.numpy as jnp

from optax_adaptive._controller import (
    ROUNDING,
    Array,
    Controller,
    ControllerState,
    merged,
)
from optax_adaptive.state.validation import check_controller


class AnchoredState(NamedTuple):
    """State of :func:`anchored`."""

    anchor_log_scale: Array  # shape=(), dtype=float32
    anchor_state: ControllerState
    residual_log_scale: Array  # shape=(), dtype=float32
    residual_state: ControllerState
    anchor_move: Array  # shape=(), dtype=float32: in the last decision


def anchored(anchor: Controller, residual: Controller) -> Controller:
    """Multiplies the factors of two rules, each of which sees only its own.

    A rule that explores, as ``residual``, moves around the factor that ``anchor`` sets,
    and neither compounds the moves of the other. Unless ``accumulation_size`` is given,
    windows have the smaller of the two rules' sizes.

    Args:
      anchor: The rule that sets the level.
      residual: The rule that moves around it.

    Returns:
      A :class:`~optax_adaptive.Controller`.

    Raises:
      TypeError: If one of them is not a :class:`~optax_adaptive.Controller`.

    Example:
      >>> from optax_adaptive import controllers
      >>> rule = controllers.anchored(controllers.plateau(), controllers.bold_driver())

    Reference:
      Residual policies: Silver et al., `Residual policy learning
      <https://arxiv.org/abs/1812.06298>`_, 2018
    """
    check_controller("anchor", anchor)
    check_controller("residual", residual)

    def init_fn():
        return AnchoredState(
            anchor_log_scale=jnp.array(anchor.initial_log_scale, jnp.float32),
            anchor_state=anchor.init(),
            residual_log_scale=jnp.array(residual.initial_log_scale, jnp.float32),
            residual_state=residual.init(),
            anchor_move=jnp.zeros((), jnp.float32),
        )

    def update_fn(observation, state):
        # The anchor takes back the part of its move that bounds have cut, or it would
        # continue from a factor that never was in force.
        requested = state.anchor_log_scale + state.residual_log_scale
        cut, move = observation.log_scale - requested, state.anchor_move
        is_cut = (cut * move < 0.0) & (jnp.abs(cut) > ROUNDING)
        taken_back = jnp.minimum(jnp.abs(cut), jnp.abs(move)) * jnp.sign(cut)
        before = state.anchor_log_scale + jnp.where(is_cut, taken_back, 0.0)
        log_scale, anchor_state = anchor.update(
            observation._replace(log_scale=before), state.anchor_state
        )
        residual_log_scale, residual_state = residual.update(
            observation._replace(log_scale=state.residual_log_scale),
            state.residual_state,
        )
        return log_scale + residual_log_scale, AnchoredState(
            anchor_log_scale=jnp.asarray(log_scale, jnp.float32),
            anchor_state=anchor_state,
            residual_log_scale=jnp.asarray(residual_log_scale, jnp.float32),
            residual_state=residual_state,
            anchor_move=jnp.asarray(log_scale - before, jnp.float32),
        )

    def request_fn(state):
        request = anchor.request(state.anchor_state)
        return merged(request, residual.request(state.residual_state))

    def begin_fn(state, found):
        # The scale found is the anchor's; that of the residual is 1.
        zero = jnp.zeros((), jnp.float32)
        return state._replace(
            anchor_log_scale=found.log_scale,
            anchor_state=anchor.begin(state.anchor_state, found),
            residual_log_scale=zero,
            residual_state=residual.begin(
                state.residual_state, found._replace(log_scale=zero)
            ),
        )

    return Controller(
        init=init_fn,
        update=update_fn,
        initial_log_scale=anchor.initial_log_scale + residual.initial_log_scale,
        request=request_fn,
        accumulation_size=min(anchor.accumulation_size, residual.accumulation_size),
        begin=begin_fn,
        name=f"anchored-{anchor.name}-{residual.name}",
        needs=tuple(dict.fromkeys(anchor.needs + residual.needs)),
    )
