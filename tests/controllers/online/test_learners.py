"""What each learner makes of rewards, without the driver around it."""

import hashlib
import json
from importlib import resources
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optax_adaptive import controllers
from optax_adaptive.controllers.learned import state_features
from optax_adaptive.controllers.online import offline_prior
from optax_adaptive.controllers.online._learner import ACTIONS, Transition
from optax_adaptive.controllers.online.settings import OnlineSettings

FEATURES = jnp.zeros((state_features.SIZE,), jnp.float32)
ONE = jnp.ones((), jnp.float32)
EACH = jnp.array(ACTIONS, jnp.float32)  # taken as proposed
FLAT = jax.tree.map(
    np.zeros_like, offline_prior.shipped()
)  # nothing is known beforehand
FLAT = FLAT._replace(  # but a hidden layer has to be something
    actor=FLAT.actor._replace(hidden=np.eye(*FLAT.actor.hidden.shape))
)


def learner_of(name, **kwargs):
    """The learner of a rule, without its driver."""
    learners = []

    def keep(learner):
        learners.append(learner)
        return learner

    settings = OnlineSettings(wrap_learner=keep)
    getattr(controllers, name)(settings=settings, **kwargs)
    return learners[0]


def play(learner, reward, blocks, exploration=0.5, take=lambda action: action):
    """Actions of shape (blocks,), of which ``take(action)`` earns ``reward`` of it."""

    def step(state, key):
        action, state = learner.act(state, FEATURES, key, jnp.float32(exploration))
        taken = take(action)
        r_t = reward(taken).astype(jnp.float32)
        return learner.learn(
            state, Transition(FEATURES, taken, r_t, FEATURES, EACH)
        ), action

    keys = jax.random.split(jax.random.PRNGKey(0), blocks)
    state, actions = jax.lax.scan(step, learner.init(), keys)
    return state, np.asarray(actions)


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("algorithm", ["thompson", "ucb", "exp3s"])
def test_bandit_goes_where_the_reward_is(algorithm, sign):
    learner = learner_of("bandit", algorithm=algorithm, prior=FLAT)
    _, actions = play(learner, lambda a: 3 * sign * a, 400)
    assert sign * np.mean(actions[300:]) > 0.3
    assert set(np.unique(actions)) <= set(np.float32(ACTIONS))


@pytest.mark.parametrize("sign", [1, -1])
def test_q_learning_goes_where_the_reward_is(sign):
    learner = learner_of("q_learning", prior=FLAT)
    state, actions = play(learner, lambda a: 3 * sign * a, 4000)  # small steps
    assert sign * np.mean(actions[2000:]) > 0.3
    assert np.sum(np.any(np.asarray(state.trace) > 0, axis=1)) == 1  # one state visited


@pytest.mark.parametrize("sign", [1, -1])
def test_actor_critic_goes_where_the_reward_is(sign):
    learner = learner_of("actor_critic", prior=FLAT)
    _, actions = play(learner, lambda a: sign * a, 1600)
    assert abs(np.mean(actions[:8])) < 0.5
    assert sign * np.mean(actions[-200:]) > 0.1  # small steps, from a prior


def first_action(learner, seed=0):
    key = jax.random.PRNGKey(seed)
    return float(learner.act(learner.init(), FEATURES, key, jnp.float32(1e-6))[0])


@pytest.mark.parametrize("wanted", [-1.0, 1 / 6])
def test_each_starts_where_its_prior_says(wanted):
    q_values = FLAT.q_values - np.square(np.array(ACTIONS) - wanted)
    weights = FLAT.bandit.copy()
    weights[-2:] = 200 * wanted, -100  # a parabola with its peak there
    actor = FLAT.actor._replace(output_bias=np.arctanh(0.99 * wanted))
    prior = offline_prior.Prior(actor, q_values, weights)
    for name in ("bandit", "q_learning", "actor_critic"):
        action = first_action(learner_of(name, prior=prior))
        assert action == pytest.approx(wanted, abs=0.02)


def test_q_learning_explores_near_what_is_best():
    q_values = FLAT.q_values - np.square(ACTIONS)
    learner = learner_of("q_learning", prior=FLAT._replace(q_values=q_values))
    keys = jax.random.split(jax.random.PRNGKey(0), 500)
    always = jnp.float32(10.0)  # a tenth of it is the probability
    act = jax.vmap(lambda key: learner.act(learner.init(), FEATURES, key, always)[0])
    actions = np.asarray(act(keys))
    assert 0.1 < np.std(actions) and np.max(np.abs(actions)) <= 0.5 + 1e-6


@pytest.mark.parametrize("best", [1.0, -1 / 3])
def test_q_learning_gives_no_credit_past_an_action_not_the_best(best):
    q_values = FLAT.q_values + np.isclose(ACTIONS, best)
    actor = FLAT.actor._replace(linear=np.eye(state_features.SIZE)[0])
    prior = FLAT._replace(q_values=q_values, actor=actor)
    learner = learner_of("q_learning", prior=prior)
    second = FEATURES.at[0].set(1.0)  # of which the network wants something else

    def table_after(action):
        state = learner.learn(
            learner.init(),
            Transition(FEATURES, jnp.float32(best), 0 * ONE, second, EACH),
        )
        given = Transition(second, jnp.float32(action), 3 * ONE, FEATURES, EACH)
        return np.asarray(learner.learn(state, given).trace)

    assert np.count_nonzero(table_after(best)) == 2
    # The ceiling was at -5 / 12, halfway between two.
    assert np.count_nonzero(table_after(-5 / 12)) == 1


def test_exp3s_credits_the_action_taken_with_its_probability():
    learner = learner_of("bandit", algorithm="exp3s", prior=FLAT)
    limit = jnp.float32(-5 / 6)  # in which twelve of thirteen proposals end
    given = Transition(FEATURES, limit, -ONE, FEATURES, jnp.minimum(EACH, limit))
    weights = np.asarray(learner.learn(learner.init(), given).log_weights)
    alone = Transition(FEATURES, limit, -ONE, FEATURES, EACH)
    alone = np.asarray(learner.learn(learner.init(), alone).log_weights)
    assert np.argmin(weights) == np.argmin(alone) == 1
    losses = [np.exp(w[0]) - np.exp(w[1]) for w in (weights, alone)]
    # Up to the shared weight.
    np.testing.assert_allclose(losses[0], 1 - np.exp(-0.3 / (12 / 13)), rtol=0.05)
    np.testing.assert_allclose(losses[1], 1 - np.exp(-0.3 / (1 / 13)), rtol=0.05)


@pytest.mark.parametrize("taken", [-1.0, 0.3])
def test_actor_critic_remembers_its_own_sample(taken):
    learner = learner_of("actor_critic", prior=FLAT)
    action, state = learner.act(learner.init(), FEATURES, jax.random.PRNGKey(0), ONE)
    given = Transition(FEATURES, jnp.float32(taken), ONE, FEATURES, EACH)
    experience = learner.learn(state, given).experience
    z = float(experience.sample[0]) / 0.1  # the standard deviation, around a mean of 0
    assert float(jnp.tanh(experience.sample[0])) == pytest.approx(float(action))
    density = np.exp(-0.5 * z**2) / (0.1 * np.sqrt(2 * np.pi))
    assert float(experience.log_prob[0]) == pytest.approx(np.log(density), rel=1e-4)


@pytest.mark.parametrize("reward", [-3.0, 3.0])
@pytest.mark.parametrize("name", ["bandit", "q_learning", "actor_critic"])
def test_learners_stay_finite_at_the_action_ceiling(name, reward):
    """For a hundred blocks the lowest action is taken, whatever is proposed."""
    state, _ = play(
        learner_of(name),
        reward=lambda action: -reward * action,
        blocks=100,
        exploration=0.1,  # as after so many
        take=lambda action: -ONE,
    )
    for leaf in jax.tree.leaves(state):
        assert np.all(np.isfinite(leaf))


def test_a_prior_of_other_shapes_is_an_error():
    message = r"prior.q_values must have the shape \(13, 13\), but it has \(13, 3\)"
    with pytest.raises(ValueError, match=message):
        controllers.q_learning(prior=FLAT._replace(q_values=np.zeros((13, 3))))
    actor = FLAT.actor._replace(output_bias=np.nan)
    with pytest.raises(ValueError, match=r"prior.actor.output_bias must be finite"):
        controllers.actor_critic(prior=FLAT._replace(actor=actor))


def test_a_file_for_other_features_is_an_error(tmp_path):
    path = tmp_path / "prior.json"
    path.write_text(json.dumps({"features": ["slope"], "prior": {}}))
    for given in (path, str(path)):
        with pytest.raises(ValueError, match=r"is for other features: \['slope'\]"):
            offline_prior.load_prior(given)


@pytest.mark.parametrize(
    ("load", "document", "message"),
    [
        (controllers.load_weights, {"a": 1}, "contains no 'weights'"),
        (controllers.load_weights, [], "contains no 'weights'"),
        (controllers.load_weights, {"weights": {}}, "is for other features: None"),
        (controllers.load_prior, {"weights": {}}, "contains no 'prior'"),
        (controllers.load_prior, {"prior": {"actor": {}}}, "lacks the arrays .*bandit"),
        (controllers.load_weights, {"weights": {"hidden": []}}, "lacks .*'linear'"),
    ],
)
def test_a_file_that_holds_something_else_is_an_error(
    tmp_path, load, document, message
):
    path = tmp_path / "given.json"
    if "lacks" in message:
        document |= {"features": state_features.NAMES}
    path.write_text(json.dumps(document))
    with pytest.raises(ValueError, match=message):
        load(path)


def test_what_is_shipped_is_small_and_says_how_it_was_made():
    prior = resources.files("optax_adaptive.controllers.online") / "prior.json"
    weights = resources.files("optax_adaptive.controllers.learned") / "weights.json"
    assert sum(len(file.read_bytes()) for file in (prior, weights)) <= 64 * 1024
    document = json.loads(prior.read_text())
    log = Path(__file__).parents[3] / "examples" / "policy" / "log_prior.jsonl"
    assert document["log_sha256"] == hashlib.sha256(log.read_bytes()).hexdigest()
    assert document["made_by"]["command"].startswith("python examples/train_prior.py")
