"""The driver of the online learners: a bounded factor around an anchor."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from optax_adaptive._controller import Array, Controller
from optax_adaptive.controllers.learned import feature_memory, state_features
from optax_adaptive.controllers.online import _action_ceiling, _block_reward, _dead_band
from optax_adaptive.controllers.online._learner import ACTIONS, Learner, Transition
from optax_adaptive.controllers.online.settings import DEFAULTS, OnlineSettings
from optax_adaptive.state.validation import check_count, check_range


class ResidualState(NamedTuple):
    """State of every rule that :func:`residual` builds."""

    key: Array  # shape=(2,), dtype=uint32: the data of a random key
    memory: feature_memory.FeatureMemory
    block: _block_reward.Block
    ceiling: _action_ceiling.ActionCeiling
    features: Array  # shape=(SIZE,), dtype=float32: when the open block started
    proposal: Array  # shape=(), dtype=float32: mean of the learner's proposals
    action: Array  # shape=(), dtype=float32: taken in the open block
    # shape=(13,), dtype=float32: the action taken, had each of ACTIONS been proposed
    choices: Array
    center: Array  # shape=(), dtype=float32: log of the factor at action 0
    learner_state: Any


def residual(
    name: str,
    learner: Learner,
    alpha: float | Array,
    repeat: int | Array,
    seed: int | Array,
    settings: OnlineSettings = DEFAULTS,
) -> Controller:
    """A rule whose factor is ``exp(alpha * action)``, for a block at a time.

    Factors do not compound. The first action is the lowest, and the action ceiling lets
    it rise from there while the learner proposes more. After a search, the factor found
    takes the place of 1, and may only be lowered. The first block has none before it to
    be compared with, and is not learned from.
    """
    check_range("alpha", alpha, 0.0, open_low=True)
    check_count("repeat", repeat, 2)
    check_count("seed", seed, 0)
    learner = settings.wrap_learner(learner)

    def init_fn():
        return ResidualState(
            key=jax.random.key_data(jax.random.key(jnp.asarray(seed, jnp.int32))),
            memory=feature_memory.first_memory(),
            block=_block_reward.first_block(),
            ceiling=_action_ceiling.first_ceiling(settings),
            features=jnp.zeros((state_features.SIZE,), jnp.float32),
            proposal=jnp.zeros((), jnp.float32),
            action=jnp.array(-1.0, jnp.float32),
            choices=jnp.full((len(ACTIONS),), -1.0, jnp.float32),
            center=jnp.zeros((), jnp.float32),
            learner_state=learner.init(),
        )

    def learned_from(state, reward, features):
        """The learner's state, with the block that is over."""
        transition = Transition(
            features_tm1=state.features,
            a_tm1=state.action,
            r_t=reward,
            features_t=features,
            choices_tm1=state.choices,
        )
        return jax.lax.cond(
            state.block.has_expected,
            lambda: learner.learn(state.learner_state, transition),
            lambda: state.learner_state,
        )

    def end_block(observation, state):
        reward, block = _block_reward.close(state.block, settings)
        ceiling = _action_ceiling.after_block(
            state.ceiling,
            state.action,
            _block_reward.is_rising(state.block, settings),
            state.block.is_blown_up,
            settings,
        )
        memory = state.memory._replace(previous_action=state.action)
        features = state_features.features(memory, observation)
        learner_state = learned_from(state, reward, features)
        key, action_key = jax.random.split(jax.random.wrap_key_data(state.key))
        exploration = jax.lax.rsqrt(block.blocks.astype(jnp.float32))
        proposal, learner_state = learner.act(
            learner_state, features, action_key, exploration
        )

        def mean_with(proposal):
            return _dead_band.smoothed(state.proposal, proposal, settings)

        def taken(mean):
            action = _dead_band.action_of(mean, settings)
            return _action_ceiling.limited(ceiling, action, settings)

        mean = mean_with(proposal)
        return ResidualState(
            key=jax.random.key_data(key),
            memory=memory,
            block=block,
            ceiling=ceiling,
            features=features,
            proposal=mean,
            action=taken(mean),
            choices=taken(mean_with(jnp.array(ACTIONS, jnp.float32))),
            center=state.center,
            learner_state=learner_state,
        )

    def within_block(observation, state):
        del observation
        return state

    def begin_fn(state, found):
        return state._replace(
            action=jnp.zeros((), jnp.float32),
            center=jnp.asarray(found.log_scale, jnp.float32),
            ceiling=_action_ceiling.ceiling_after_search(settings),
        )

    def update_fn(observation, state):
        state = state._replace(
            memory=feature_memory.remember(state.memory, observation),
            block=_block_reward.add_window(state.block, observation, settings),
        )
        is_over = _block_reward.is_over(state.block, repeat, settings)
        state = jax.lax.cond(is_over, end_block, within_block, observation, state)
        log_scale = state.center + alpha * state.action
        return jnp.asarray(log_scale, jnp.float32), state

    return Controller(
        init_fn, update_fn, initial_log_scale=-alpha, begin=begin_fn, name=name
    )
