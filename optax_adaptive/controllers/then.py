"""then: one rule until it is done, and another from the rate that it leaves."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from optax_adaptive._controller import Array, Controller, ControllerState, nothing_found
from optax_adaptive.signals.history import filled
from optax_adaptive.state.packing import switch
from optax_adaptive.state.trees import saturating_add, select
from optax_adaptive.state.validation import check_controller


class ThenState(NamedTuple):
    """State of :func:`then`."""

    first_state: ControllerState
    second_state: ControllerState  # the first one until the rule has decided
    left_log_scale: Array  # shape=(), dtype=float32: what the first rule leaves
    has_begun: Array  # shape=(), dtype=bool: has the second rule decided before?
    windows_in_second: Array  # shape=(), dtype=int32: finite ones since the hand-over


def then(first: Controller, second: Controller) -> Controller:
    """Follows ``first`` until it is done, then ``second``.

    ``second`` starts from the factor that ``first`` leaves, and sees no window from
    before the hand-over. Unless ``accumulation_size`` is given, windows have the
    smaller of the two rules' sizes; :func:`search` requests windows of its own.

    Args:
      first: A rule that ends: its state has a boolean field ``is_done``, as those of
        :func:`search` and :func:`range_test` have. It may also have a field ``found``,
        a :class:`Found` for :attr:`Controller.begin` of ``second``.
      second: The rule to hand over to.

    Returns:
      A :class:`~optax_adaptive.Controller`.

    Raises:
      ValueError: If the state of ``first`` has no field ``is_done``.
      TypeError: If one of them is not a :class:`~optax_adaptive.Controller`.

    Example:
      >>> from optax_adaptive import controllers
      >>> rule = controllers.then(controllers.range_test(), controllers.plateau())
    """
    check_controller("first", first)
    check_controller("second", second)
    if not hasattr(jax.eval_shape(first.init), "is_done"):
        raise ValueError(
            "the first rule of then() must say when it is done, by a boolean field "
            "`is_done` in its state, as range_test does"
        )

    def init_fn():
        return ThenState(
            first_state=first.init(),
            second_state=second.init(),
            left_log_scale=jnp.zeros((), jnp.float32),
            has_begun=jnp.zeros((), jnp.bool_),
            windows_in_second=jnp.zeros((), jnp.int32),
        )

    def found(log_scale, first_state):
        known = getattr(first_state, "found", nothing_found())
        return known._replace(log_scale=jnp.asarray(log_scale, jnp.float32))

    def begun(log_scale, state):
        handed = found(log_scale, state.first_state)
        first_state = second.begin(second.init(), handed)
        return select(state.has_begun, state.second_state, first_state)

    def follow_first(state, observation):
        log_scale, first_state = first.update(observation, state.first_state)
        log_scale = jnp.asarray(log_scale, jnp.float32)
        state = state._replace(first_state=first_state, left_log_scale=log_scale)
        return state, log_scale

    def follow_second(state, observation):
        is_finite = jnp.isfinite(observation.value)
        windows = saturating_add(state.windows_in_second, is_finite)
        since = filled(observation.mask.shape[0], windows)
        observation = observation._replace(mask=observation.mask & since)
        # From the factor in force, which bounds may have cut.
        log_scale, second_state = second.update(
            observation, begun(observation.log_scale, state)
        )
        state = state._replace(
            second_state=second_state,
            has_begun=jnp.ones((), jnp.bool_),
            windows_in_second=windows,
        )
        return state, jnp.asarray(log_scale, jnp.float32)

    def update_fn(observation, state):
        state, log_scale = switch(
            state.first_state.is_done.astype(jnp.int32),
            [lambda both: follow_first(*both), lambda both: follow_second(*both)],
            like=(state, observation.log_scale),
            operands=(state, observation),
        )
        return log_scale, state

    def request_fn(state):
        # Events of the decision that ends the first rule are those of the first rule.
        one = first.request(state.first_state)
        # It is read before the first decision of ``second``.
        other = second.request(begun(state.left_log_scale, state))
        asked = select(state.first_state.is_done, other, one)
        return asked._replace(
            restore=jnp.where(state.has_begun, other.restore, one.restore),
            snapshot=jnp.where(state.has_begun, other.snapshot, one.snapshot),
        )

    def begin_fn(state, found):
        return state._replace(
            first_state=first.begin(state.first_state, found),
            left_log_scale=jnp.asarray(found.log_scale, jnp.float32),
        )

    return Controller(
        init=init_fn,
        update=update_fn,
        initial_log_scale=first.initial_log_scale,
        request=request_fn,
        accumulation_size=min(first.accumulation_size, second.accumulation_size),
        begin=begin_fn,
        name=f"then-{first.name}-{second.name}",
        needs=tuple(dict.fromkeys(first.needs + second.needs)),
    )
