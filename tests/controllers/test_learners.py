"""What each learner makes of rewards, without the driver around it."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optax_adaptive import controllers
from optax_adaptive.controllers import _features
from optax_adaptive.controllers._residual import ACTIONS, Transition

FEATURES = jnp.zeros((_features.SIZE,), jnp.float32)


@pytest.fixture
def learner_of(monkeypatch):
    """Makes the learner of a rule, in place of the rule."""

    def make(name, **kwargs):
        module = sys.modules[f"optax_adaptive.controllers.{name}"]
        monkeypatch.setattr(module, "residual", lambda learner, *args: learner)
        return getattr(controllers, name)(**kwargs)

    return make


def play(learner, reward, blocks, exploration=0.5):
    """Actions of shape (blocks,), each of which earns ``reward(action)``."""

    def step(state, key):
        action, state = learner.act(state, FEATURES, key, jnp.float32(exploration))
        r_t = reward(action).astype(jnp.float32)
        return learner.learn(state, Transition(FEATURES, action, r_t, FEATURES)), action

    keys = jax.random.split(jax.random.PRNGKey(0), blocks)
    state, actions = jax.lax.scan(step, learner.init(), keys)
    return state, np.asarray(actions)


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("algorithm", ["thompson", "ucb", "exp3s"])
def test_bandit_goes_where_the_reward_is(learner_of, algorithm, sign):
    learner = learner_of("bandit", algorithm=algorithm)
    _, actions = play(learner, lambda a: sign * a, 100)
    assert sign * np.mean(actions[50:]) > 0.3
    assert set(np.unique(actions)) <= set(ACTIONS)


@pytest.mark.parametrize("sign", [1, -1])
def test_q_learning_goes_where_the_reward_is(learner_of, sign):
    learner = learner_of("q_learning")
    state, actions = play(learner, lambda a: sign * a, 200)
    assert sign * np.mean(actions[100:]) > 0.3
    assert np.sum(np.any(np.asarray(state.trace) > 0, axis=1)) == 1  # one state visited


def test_q_learning_begins_with_the_no_op(learner_of):
    learner = learner_of("q_learning")
    action, _ = learner.act(
        learner.init(), FEATURES, jax.random.PRNGKey(0), jnp.float32(0)
    )
    assert float(action) == 0


@pytest.mark.parametrize("sign", [1, -1])
def test_actor_critic_goes_where_the_reward_is(learner_of, sign):
    learner = learner_of("actor_critic")
    _, actions = play(learner, lambda a: sign * a, 400)
    assert abs(np.mean(actions[:8])) < 0.5
    assert sign * np.mean(actions[200:]) > 0.3
