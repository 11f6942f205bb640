"""Bandits against hand-computed numbers, and their behaviour on simple arms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from optax_adaptive import rl


def no_pulls(arms):
    return rl.ArmStatistics(jnp.zeros(arms), jnp.zeros(arms))


@given(
    pulls=st.lists(
        st.tuples(st.integers(0, 2), st.floats(-10, 10, width=32)), max_size=20
    ),
    discount=st.sampled_from([1.0, 0.98, 0.5]),
)
def test_arms_are_discounted_sums(pulls, discount):
    arms = no_pulls(3)
    for arm, reward in pulls:
        arms = rl.update_arms(arms, jnp.array(arm), jnp.float32(reward), discount)
    weights = discount ** np.arange(len(pulls))[::-1]
    for arm in range(3):
        mine = [(w, r) for w, (a, r) in zip(weights, pulls, strict=True) if a == arm]
        count = sum(w for w, _ in mine)
        np.testing.assert_allclose(arms.counts[arm], count, rtol=1e-4, atol=1e-6)
        if mine:
            mean = sum(w * r for w, r in mine) / count
            np.testing.assert_allclose(arms.means[arm], mean, rtol=1e-3, atol=1e-4)


def test_ucb_scores_by_hand():
    arms = rl.ArmStatistics(jnp.float32([3, 0]), jnp.float32([2, 0]))
    scores = rl.ucb_scores(arms, jnp.float32(0.5), jnp.float32([1, 1]))
    width = 0.5 * np.sqrt(2 * np.log(4))
    np.testing.assert_allclose(scores, [1.5 + width / 2, width], rtol=1e-6)


def test_thompson_scores_have_the_posterior_s_moments():
    arms = rl.ArmStatistics(jnp.float32([3, 0, 15]), jnp.float32([2, 0, -1]))
    keys = jax.random.split(jax.random.PRNGKey(0), 4000)
    draws = jax.vmap(
        lambda key: rl.thompson_scores(key, arms, jnp.float32(2), jnp.ones(3))
    )(keys)
    np.testing.assert_allclose(draws.mean(0), [1.5, 0, -15 / 16], atol=0.1)
    np.testing.assert_allclose(draws.std(0), [1, 2, 0.5], rtol=0.05)


def test_exp3s_probabilities_by_hand():
    probabilities = rl.exp3s_probabilities(jnp.log(jnp.float32([3, 1])), 0.2)
    np.testing.assert_allclose(probabilities, [0.7, 0.3], rtol=1e-6)


def test_exp3s_update_by_hand():
    # exp(0.1 * 2 / 0.25) = exp(0.8) for the arm pulled; then 0.1 of the mean to both.
    new = rl.exp3s_update(
        jnp.zeros(2), jnp.float32([0.25, 0.75]), jnp.array(0), 2.0, 0.1, 0.1
    )
    weights = np.array([np.exp(0.8), 1.0])
    weights += 0.1 * weights.mean()
    np.testing.assert_allclose(new, np.log(weights / weights.max()), rtol=1e-5)


def test_exp3s_estimates_are_unbiased():
    # Over the draw of the arm, the expected step is the step on all rewards at once.
    p, rewards = np.float32([0.7, 0.2, 0.1]), np.float32([-1, -2, -3])
    steps = [
        rl.exp3s_update(jnp.zeros(3), jnp.asarray(p), jnp.array(a), rewards[a], 0.01, 0)
        for a in range(3)
    ]
    mean = sum(p[a] * np.asarray(steps[a]) for a in range(3))
    np.testing.assert_allclose(mean - mean[0], 0.01 * (rewards - rewards[0]), atol=1e-6)


@pytest.mark.parametrize("reward", [-1e30, 1e30])
def test_exp3s_weights_stay_finite(reward):
    log_weights = jnp.zeros(2)
    for _ in range(3):
        p = rl.exp3s_probabilities(log_weights, 0.1)
        log_weights = rl.exp3s_update(log_weights, p, jnp.array(0), reward, 1.0, 0.01)
    assert np.all(np.isfinite(log_weights))


@pytest.mark.parametrize("algorithm", ["thompson", "ucb", "exp3s"])
def test_finds_the_better_arm_and_its_successor(algorithm):
    best = jnp.concatenate([jnp.zeros(400, jnp.int32), jnp.full(400, 2, jnp.int32)])

    def step(carry, x):
        arms, log_weights = carry
        key, best = x
        one, two, three = jax.random.split(key, 3)
        p = rl.exp3s_probabilities(log_weights, 0.1)
        if algorithm == "thompson":
            scores = rl.thompson_scores(one, arms, jnp.float32(1), jnp.ones(3))
        elif algorithm == "ucb":
            scores = rl.ucb_scores(arms, jnp.float32(1), jnp.ones(3))
        else:
            scores = jax.random.gumbel(two, (3,)) + jnp.log(p)
        arm = jnp.argmax(scores)
        reward = jax.random.normal(three) + 2.0 * (arm == best).astype(jnp.float32)
        arms = rl.update_arms(arms, arm, reward, 0.98)
        log_weights = rl.exp3s_update(log_weights, p, arm, reward, 0.05, 0.01)
        return (arms, log_weights), arm

    keys = jax.random.split(jax.random.PRNGKey(0), 800)
    _, arms = jax.lax.scan(step, (no_pulls(3), jnp.zeros(3)), (keys, best))
    arms = np.asarray(arms)
    assert np.mean(arms[200:400] == 0) > 0.6
    assert np.mean(arms[600:] == 2) > 0.6
