"""Rules made from rules, by wrapping: clip, warmup, anchored, then."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from optax_adaptive import _history, _pack
from optax_adaptive._controller import (
    ROUNDING,
    Array,
    Controller,
    ControllerState,
    merged,
    unknown,
)
from optax_adaptive._leaves import select
from optax_adaptive._validate import check_controller, check_count, check_range


def clip(rule: Controller, max_change: float | Array) -> Controller:
    """Bounds how far ``rule`` moves the rate in one decision.

    What it cuts off is lost: a rule that means to move once, as :func:`range_test` does
    when it backs off, is not asked again.

    Args:
      rule: The rule to bound.
      max_change: Largest factor a decision, above 1: 2 allows halving to doubling.

    Returns:
      A :class:`~optax_adaptive.Controller` with the state of ``rule``.

    Raises:
      ValueError: If ``max_change`` is not above 1.
      TypeError: If ``rule`` is no :class:`~optax_adaptive.Controller`.

    Example:
      >>> from optax_adaptive import controllers
      >>> rule = controllers.clip(controllers.plateau(factor=0.1), max_change=2.0)
    """
    check_controller("rule", rule)
    check_range("max_change", max_change, 1.0, open_low=True)

    def update_fn(observation, state):
        log_scale, state = rule.update(observation, state)
        bound = jnp.log(max_change)
        change = jnp.clip(log_scale - observation.log_scale, -bound, bound)
        return observation.log_scale + change, state

    return rule._replace(update=update_fn, name=f"clip-{rule.name}")


class WarmupState(NamedTuple):
    """State of :func:`warmup`."""

    warmed_log_scale: Array  # shape=(), dtype=float32: the factor under the warmup
    warmed_state: ControllerState
    is_warm: Array  # shape=(), dtype=bool: has the rule been asked?


def warmup(rule: Controller, steps: int | Array) -> Controller:
    """Ramps the factor of ``rule`` up from near 0 over the first ``steps`` steps.

    The ramp is linear in the step and moves once a window. Meanwhile ``rule`` waits: it
    is asked from the first window that ends after the ramp.

    Args:
      rule: The rule to warm up to.
      steps: Optimizer steps until the full factor, at least 1.

    Returns:
      A :class:`~optax_adaptive.Controller`.

    Raises:
      ValueError: If ``steps`` is not an integer of at least 1.
      TypeError: If ``rule`` is no :class:`~optax_adaptive.Controller`.

    Example:
      >>> from optax_adaptive import controllers
      >>> rule = controllers.warmup(controllers.plateau(), steps=500)
    """
    check_controller("rule", rule)
    check_count("steps", steps)

    def ramp(step):
        return jnp.log(jnp.minimum((step + 1) / steps, 1.0)).astype(jnp.float32)

    def init_fn():
        return WarmupState(
            warmed_log_scale=jnp.array(rule.initial_log_scale, jnp.float32),
            warmed_state=rule.init(),
            is_warm=jnp.zeros((), jnp.bool_),
        )

    def ask(observation, state):
        # From then on that in force, which bounds may have cut.
        log_scale = jnp.where(
            state.is_warm, observation.log_scale, state.warmed_log_scale
        )
        observation = observation._replace(log_scale=log_scale)
        answer = rule.update(observation, state.warmed_state)
        return WarmupState(*answer, jnp.ones((), jnp.bool_))

    def wait(observation, state):
        del observation
        return state

    def update_fn(observation, state):
        is_over = observation.step + 1 >= steps
        state = jax.lax.cond(is_over, ask, wait, observation, state)
        return state.warmed_log_scale + ramp(observation.step), state

    def begin_fn(state, found):
        return state._replace(
            warmed_log_scale=found.log_scale,
            warmed_state=rule.begin(state.warmed_state, found),
        )

    return rule._replace(
        init=init_fn,
        update=update_fn,
        initial_log_scale=rule.initial_log_scale + ramp(jnp.zeros((), jnp.int32)),
        request=lambda state: rule.request(state.warmed_state),
        begin=begin_fn,
        name=f"warmup-{rule.name}",
    )


class AnchoredState(NamedTuple):
    """State of :func:`anchored`."""

    anchor_log_scale: Array  # shape=(), dtype=float32
    anchor_state: ControllerState
    residual_log_scale: Array  # shape=(), dtype=float32
    residual_state: ControllerState
    anchor_move: Array  # shape=(), dtype=float32: in the last decision


def anchored(anchor: Controller, residual: Controller) -> Controller:
    """Multiplies the factors of two rules, each of which sees only its own.

    A rule that explores, as ``residual``, moves around what ``anchor`` settles on
    without either compounding the other's moves. Unless you say otherwise, windows are
    as short as the one that asks for shorter ones wants them.

    Args:
      anchor: The rule that sets the level.
      residual: The rule that moves around it.

    Returns:
      A :class:`~optax_adaptive.Controller`.

    Raises:
      TypeError: If one of them is no :class:`~optax_adaptive.Controller`.

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
        # What bounds have cut of the anchor's move it takes back, or it would go on
        # from a factor that never was in force.
        asked = state.anchor_log_scale + state.residual_log_scale
        cut, move = observation.log_scale - asked, state.anchor_move
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
            anchor_log_scale=log_scale,
            anchor_state=anchor_state,
            residual_log_scale=residual_log_scale,
            residual_state=residual_state,
            anchor_move=jnp.asarray(log_scale - before, jnp.float32),
        )

    def request_fn(state):
        asked = anchor.request(state.anchor_state)
        return merged(asked, residual.request(state.residual_state))

    def begin_fn(state, found):
        # It is the anchor's, and the residual is none.
        none = jnp.zeros((), jnp.float32)
        return state._replace(
            anchor_log_scale=found.log_scale,
            anchor_state=anchor.begin(state.anchor_state, found),
            residual_log_scale=none,
            residual_state=residual.begin(
                state.residual_state, found._replace(log_scale=none)
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


class ThenState(NamedTuple):
    """State of :func:`then`."""

    first_state: ControllerState
    second_state: ControllerState
    has_begun: Array  # shape=(), dtype=bool: was the second one asked before?
    windows_in_second: Array  # shape=(), dtype=int32: finite ones since the hand-over


def then(first: Controller, second: Controller) -> Controller:
    """Follows ``first`` until it is done, then ``second``.

    ``second`` starts from the factor that ``first`` leaves, and sees no window from
    before the hand-over. Unless you say otherwise, windows are as short as the one that
    asks for shorter ones wants them; :func:`search` has its own.

    Args:
      first: A rule that ends: its state has a boolean field ``is_done``, as those of
        :func:`search` and :func:`range_test` have; and maybe a field ``found``, a
        :class:`Found` for :attr:`Controller.begin` of ``second``.
      second: The rule to hand over to.

    Returns:
      A :class:`~optax_adaptive.Controller`.

    Raises:
      ValueError: If the state of ``first`` has no field ``is_done``.
      TypeError: If one of them is no :class:`~optax_adaptive.Controller`.

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
            has_begun=jnp.zeros((), jnp.bool_),
            windows_in_second=jnp.zeros((), jnp.int32),
        )

    def found(log_scale, first_state):
        known = getattr(first_state, "found", unknown())
        return known._replace(log_scale=jnp.asarray(log_scale, jnp.float32))

    def follow_first(observation, state):
        log_scale, first_state = first.update(observation, state.first_state)
        # What it asks for is read before it is first asked.
        begun = second.begin(state.second_state, found(log_scale, first_state))
        return log_scale, state._replace(
            first_state=first_state,
            second_state=select(first_state.is_done, begun, state.second_state),
        )

    def follow_second(observation, state):
        # From the factor in force, which bounds may have cut.
        handed = found(observation.log_scale, state.first_state)
        begun = second.begin(state.second_state, handed)
        begun = select(state.has_begun, state.second_state, begun)
        is_finite = jnp.isfinite(observation.value)
        windows = state.windows_in_second + is_finite.astype(jnp.int32)
        since = _history.filled(observation.mask.shape[0], windows)
        observation = observation._replace(mask=observation.mask & since)
        log_scale, second_state = second.update(observation, begun)
        return log_scale, ThenState(
            first_state=state.first_state,
            second_state=second_state,
            has_begun=jnp.ones((), jnp.bool_),
            windows_in_second=windows,
        )

    def update_fn(observation, state):
        return _pack.switch(
            state.first_state.is_done.astype(jnp.int32),
            [lambda both: follow_first(*both), lambda both: follow_second(*both)],
            like=(observation.log_scale, state),
            operands=(observation, state),
        )

    def request_fn(state):
        # The events of the decision by which the first one ended are its own.
        one = first.request(state.first_state)
        other = second.request(state.second_state)
        asked = select(state.first_state.is_done, other, one)
        return asked._replace(
            restore=jnp.where(state.has_begun, other.restore, one.restore),
            snapshot=jnp.where(state.has_begun, other.snapshot, one.snapshot),
        )

    def begin_fn(state, found):
        return state._replace(first_state=first.begin(state.first_state, found))

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
