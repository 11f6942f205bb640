"""What a learner wants as a bounded factor around an anchor, within its reach."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from optax_adaptive._controller import Array, Controller
from optax_adaptive.controllers.learned import feature_memory
from optax_adaptive.controllers.online import _action_ceiling, _block_reward, _dead_band
from optax_adaptive.state.validation import check_count, check_range

# Of learners that choose among a few: sixths of the bound, the least of which is small
# enough to be left undone (`_dead_band.py`).
ACTIONS = tuple(sixths / 6 for sixths in range(-6, 7))


class Transition(NamedTuple):
    """A block that is over, as a learner is told of it."""

    features_tm1: Array  # shape=(SIZE,), dtype=float32: when it began
    a_tm1: Array  # shape=(), dtype=float32: the action taken, not the one wanted
    r_t: Array  # shape=(), dtype=float32: its advantage over the blocks so far
    features_t: Array  # shape=(SIZE,), dtype=float32: when it ended
    choices_tm1: Array  # shape=(13,), dtype=float32: to what each of ACTIONS had led


class Learner(NamedTuple):
    """Wants actions in [-1, 1], and learns from what those taken earn."""

    init: Callable[[], Any]  # -> state
    # state, features, random key, exploration in (0, 1] -> action, state
    act: Callable[[Any, Array, Array, Array], tuple[Array, Any]]
    learn: Callable[[Any, Transition], Any]  # state, transition -> state


class ResidualState(NamedTuple):
    """State of every rule that :func:`residual` makes."""

    key: Array  # shape=(2,), dtype=uint32: the data of a random key
    memory: feature_memory.FeatureMemory
    block: _block_reward.Block
    reach: _action_ceiling.Reach
    features: Array  # shape=(SIZE,), dtype=float32: when the open block began
    wanted: Array  # shape=(), dtype=float32: mean of what the learner wanted
    action: Array  # shape=(), dtype=float32: taken in the open block
    choices: Array  # shape=(13,), dtype=float32: what could have been, from ACTIONS
    center: Array  # shape=(), dtype=float32: log of the factor at action 0
    learner_state: Any


def residual(
    name: str,
    learner: Learner,
    alpha: float | Array,
    repeat: int | Array,
    seed: int | Array,
) -> Controller:
    """Makes the rule whose factor is ``exp(alpha * action)``, a block at a time.

    It never compounds. It begins at the lowest action, and the reach lets it rise from
    there, as far as the learner goes on wanting. Where another factor is in force
    already, that takes the place of 1, and may only be lowered. The first block has
    none before it to be compared with, and is not learned.
    """
    check_range("alpha", alpha, 0.0, open_low=True)
    check_count("repeat", repeat, 2)
    check_count("seed", seed, 0)

    def init_fn():
        return ResidualState(
            key=jax.random.key_data(jax.random.key(jnp.asarray(seed, jnp.int32))),
            memory=feature_memory.first_memory(),
            block=_block_reward.first_block(),
            reach=_action_ceiling.first_reach(),
            features=jnp.zeros((feature_memory.SIZE,), jnp.float32),
            wanted=jnp.zeros((), jnp.float32),
            action=jnp.array(-1.0, jnp.float32),
            choices=jnp.full((len(ACTIONS),), -1.0, jnp.float32),
            center=jnp.zeros((), jnp.float32),
            learner_state=learner.init(),
        )

    def end_block(observation, state):
        is_rising = _block_reward.is_rising(state.block)
        is_blown_up = state.block.is_blown_up
        advantage, block = _block_reward.close(state.block)
        reach = _action_ceiling.watch(state.reach, state.action, is_rising, is_blown_up)
        memory = state.memory._replace(previous_action=state.action)
        features = feature_memory.features(memory, observation)
        transition = Transition(
            features_tm1=state.features,
            a_tm1=state.action,
            r_t=advantage,
            features_t=features,
            choices_tm1=state.choices,
        )
        learner_state = jax.lax.cond(
            state.block.has_expected,
            lambda: learner.learn(state.learner_state, transition),
            lambda: state.learner_state,
        )
        key, action_key = jax.random.split(jax.random.wrap_key_data(state.key))
        exploration = jax.lax.rsqrt(block.blocks.astype(jnp.float32))
        action, learner_state = learner.act(
            learner_state, features, action_key, exploration
        )
        wanted = _dead_band.weigh(state.wanted, action)

        def take(wanted):
            return _action_ceiling.limited(reach, _dead_band.resolved(wanted))

        return ResidualState(
            key=jax.random.key_data(key),
            memory=memory,
            block=block,
            reach=reach,
            features=features,
            wanted=wanted,
            action=take(wanted),
            choices=take(
                _dead_band.weigh(state.wanted, jnp.array(ACTIONS, jnp.float32))
            ),
            center=state.center,
            learner_state=learner_state,
        )

    def go_on(observation, state):
        del observation
        return state

    def begin_fn(state, found):
        return state._replace(
            action=jnp.zeros((), jnp.float32),
            center=jnp.asarray(found.log_scale, jnp.float32),
            reach=_action_ceiling.found_reach(),
        )

    def update_fn(observation, state):
        state = state._replace(
            memory=feature_memory.remember(state.memory, observation),
            block=_block_reward.read(state.block, observation),
        )
        is_over = _block_reward.is_over(state.block, repeat)
        state = jax.lax.cond(is_over, end_block, go_on, observation, state)
        log_scale = state.center + alpha * state.action
        return jnp.asarray(log_scale, jnp.float32), state

    return Controller(
        init_fn, update_fn, initial_log_scale=-alpha, begin=begin_fn, name=name
    )


def nearest_arm(action: Array) -> Array:
    """The index in ``ACTIONS`` of the one nearest to an action, int32.

    Halfway between two it is the lower one, since the reach may end there.
    """
    distances = jnp.abs(jnp.array(ACTIONS, jnp.float32) - (action - 1e-3))
    return jnp.argmin(distances).astype(jnp.int32)
