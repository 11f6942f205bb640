"""A learner's actions as a bounded factor around an anchor, under guard."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from optax_adaptive._controller import Array, Controller
from optax_adaptive._validate import check_count, check_range
from optax_adaptive.controllers import _advantage, _features, _guard

ACTIONS = (-1.0, -0.5, 0.0, 0.5, 1.0)  # of learners that choose among a few
CONTROL = 0.2  # probability of a block at the no-op: a randomised trial within the run


class Transition(NamedTuple):
    """A block that was the learner's own, as it is told of it."""

    features_tm1: Array  # shape=(SIZE,), dtype=float32: when it began
    a_tm1: Array  # shape=(), dtype=float32: the action taken, within the guard's limits
    r_t: Array  # shape=(), dtype=float32: its advantage over the no-op
    features_t: Array  # shape=(SIZE,), dtype=float32: when it ended


class Learner(NamedTuple):
    """Chooses actions in [-1, 1] and learns from what they earn: pure functions."""

    init: Callable[[], Any]  # -> state
    # state, features, random key, exploration in (0, 1] -> action, state
    act: Callable[[Any, Array, Array, Array], tuple[Array, Any]]
    learn: Callable[[Any, Transition], Any]  # state, transition -> state


class ResidualState(NamedTuple):
    """State of every rule that :func:`residual` makes."""

    key: Array  # shape=(2,), dtype=uint32
    memory: _features.FeatureMemory
    block: _advantage.Block
    guard: _guard.Guard
    features: Array  # shape=(SIZE,), dtype=float32: when the open block began
    action: Array  # shape=(), dtype=float32: taken in the open block
    is_control: Array  # shape=(), dtype=bool: is that the no-op, for comparison?
    learner_state: Any


def residual(
    learner: Learner, alpha: float | Array, repeat: int | Array, seed: int | Array
) -> Controller:
    """Makes the rule whose factor is ``exp(alpha * action)``, a block at a time.

    It never compounds. It begins at the lowest action, from where the guard lets the
    rate rise to the no-op for a first control block; only then is there a reward.
    """
    check_range("alpha", alpha, 0.0, open_low=True)
    check_count("repeat", repeat, 2)
    check_count("seed", seed, 0)

    def init_fn():
        return ResidualState(
            key=jax.random.PRNGKey(jnp.asarray(seed, jnp.int32)),
            memory=_features.first_memory(),
            block=_advantage.first_block(),
            guard=_guard.first_guard(),
            features=jnp.zeros((_features.SIZE,), jnp.float32),
            action=jnp.array(-1.0, jnp.float32),
            is_control=jnp.ones((), jnp.bool_),
            learner_state=learner.init(),
        )

    def end_block(observation, state):
        is_rising = _advantage.is_rising(state.block)
        is_no_op = state.is_control & (state.action == 0)
        advantage, block = _advantage.close(state.block, is_no_op)
        guard = _guard.watch(
            state.guard,
            state.action,
            advantage,
            is_control=state.is_control,
            is_rising=is_rising,
            is_blown_up=state.block.is_blown_up,
            is_judged=block.blocks * repeat >= _guard.FREE_WINDOWS,
        )
        memory = state.memory._replace(previous_action=state.action)
        features = _features.features(memory, observation)
        transition = Transition(state.features, state.action, advantage, features)
        learner_state = jax.lax.cond(
            state.is_control,
            lambda: state.learner_state,
            lambda: learner.learn(state.learner_state, transition),
        )
        key, control_key, action_key = jax.random.split(state.key, 3)
        is_drawn = jax.random.uniform(control_key, dtype=jnp.float32) < CONTROL
        is_control = is_drawn | ~block.has_expected
        exploration = jax.lax.rsqrt(block.blocks.astype(jnp.float32))
        action, learner_state = jax.lax.cond(
            is_control,
            lambda: (jnp.zeros((), jnp.float32), learner_state),
            lambda: learner.act(learner_state, features, action_key, exploration),
        )
        return ResidualState(
            key=key,
            memory=memory,
            block=block,
            guard=guard,
            features=features,
            action=_guard.limited(guard, action),
            is_control=is_control,
            learner_state=learner_state,
        )

    def go_on(observation, state):
        del observation
        return state

    def update_fn(observation, state):
        state = state._replace(
            memory=_features.remember(state.memory, observation),
            block=_advantage.read(state.block, observation),
        )
        is_over = _advantage.is_over(state.block, repeat)
        state = jax.lax.cond(is_over, end_block, go_on, observation, state)
        return jnp.asarray(alpha * state.action, jnp.float32), state

    return Controller(init_fn, update_fn, initial_log_scale=-alpha)
