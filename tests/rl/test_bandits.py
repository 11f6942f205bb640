"""Bandits against hand-computed numbers, and their behaviour on simple arms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from optax_adaptive import rl


def independent(counts, means):
    counts, means = jnp.float32(counts), jnp.float32(means)
    return rl.BanditStatistics(jnp.diag(counts), counts * means)


@given(
    pulls=st.lists(
        st.tuples(st.integers(0, 2), st.floats(-10, 10, width=32)), max_size=20
    ),
    discount=st.sampled_from([1.0, 0.98, 0.5]),
)
def test_independent_arms_are_discounted_counts_and_sums(pulls, discount):
    statistics = rl.empty_statistics(3)
    for arm, reward in pulls:
        statistics = rl.update_statistics(
            statistics, jnp.eye(3)[arm], jnp.float32(reward), discount
        )
    weights = discount ** np.arange(len(pulls))[::-1]
    counts, sums = np.zeros(3), np.zeros(3)
    for weight, (arm, reward) in zip(weights, pulls, strict=True):
        counts[arm] += weight
        sums[arm] += weight * reward
    np.testing.assert_allclose(statistics.precision, np.diag(counts), rtol=1e-4)
    np.testing.assert_allclose(statistics.response, sums, rtol=1e-3, atol=1e-4)


def test_the_posterior_is_weighted_ridge_regression():
    rng = np.random.default_rng(0)
    x, r = rng.normal(size=(12, 2)), rng.normal(size=12)
    prior_mean, prior_precision = np.array([0.5, -1.0]), np.array([2.0, 4.0])
    statistics = rl.empty_statistics(2)
    for row, reward in zip(x, r, strict=True):
        statistics = rl.update_statistics(
            statistics, jnp.float32(row), jnp.float32(reward), 0.9
        )
    belief = rl.posterior(
        statistics, jnp.float32(prior_mean), jnp.float32(prior_precision)
    )
    # The prior as further rows of data, and the discount as weights of the rows.
    weights = np.concatenate([0.9 ** np.arange(11, -1, -1), prior_precision])
    rows = np.concatenate([x, np.eye(2)])
    targets = np.concatenate([r, prior_mean])
    root = np.sqrt(weights)
    expected = np.linalg.lstsq(rows * root[:, None], targets * root, rcond=None)[0]
    np.testing.assert_allclose(belief.mean, expected, rtol=1e-4)
    information = rows.T @ (weights[:, None] * rows)
    np.testing.assert_allclose(belief.covariance, np.linalg.inv(information), rtol=1e-4)


def test_ucb_scores_by_hand():
    belief = rl.posterior(independent([3, 0], [2, 0]), jnp.zeros(2), jnp.ones(2))
    scores = rl.ucb_scores(belief, jnp.eye(2), 0.5)
    np.testing.assert_allclose(scores, [1.5 + 0.25, 0.5], rtol=1e-6)


def test_thompson_scores_have_the_posterior_s_moments():
    statistics = independent([3, 0, 15], [2, 0, -1])
    belief = rl.posterior(statistics, jnp.zeros(3), jnp.ones(3))
    keys = jax.random.split(jax.random.PRNGKey(0), 4000)
    draws = jax.vmap(lambda key: rl.thompson_scores(key, belief, jnp.eye(3), 2.0))(keys)
    np.testing.assert_allclose(draws.mean(0), [1.5, 0, -15 / 16], atol=0.1)
    np.testing.assert_allclose(draws.std(0), [1, 2, 0.5], rtol=0.05)


def test_exp3s_probabilities_by_hand():
    probabilities = rl.exp3s_probabilities(jnp.log(jnp.float32([3, 1])), 0.2)
    np.testing.assert_allclose(probabilities, [0.7, 0.3], rtol=1e-6)


def test_exp3s_update_by_hand():
    # exp(0.1 * 2 / 0.25) = exp(0.8) for the arm pulled; to both 0.1 of the mean before.
    new = rl.exp3s_update(
        jnp.zeros(2), jnp.float32([0.25, 0.75]), jnp.array(0), 2.0, 0.1, 0.1
    )
    weights = np.array([np.exp(0.8), 1.0]) + 0.1
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
        statistics, log_weights = carry
        key, best = x
        one, two, three = jax.random.split(key, 3)
        p = rl.exp3s_probabilities(log_weights, 0.1)
        belief = rl.posterior(statistics, jnp.zeros(3), jnp.ones(3))
        if algorithm == "thompson":
            scores = rl.thompson_scores(one, belief, jnp.eye(3), 1.0)
        elif algorithm == "ucb":
            scores = rl.ucb_scores(belief, jnp.eye(3), 2.0)
        else:
            scores = jax.random.gumbel(two, (3,)) + jnp.log(p)
        arm = jnp.argmax(scores)
        reward = jax.random.normal(three) + 2.0 * (arm == best).astype(jnp.float32)
        statistics = rl.update_statistics(statistics, jnp.eye(3)[arm], reward, 0.98)
        log_weights = rl.exp3s_update(log_weights, p, arm, reward, 0.05, 0.01)
        return (statistics, log_weights), arm

    keys = jax.random.split(jax.random.PRNGKey(0), 800)
    start = (rl.empty_statistics(3), jnp.zeros(3))
    _, arms = jax.lax.scan(step, start, (keys, best))
    arms = np.asarray(arms)
    assert np.mean(arms[200:400] == 0) > 0.6
    assert np.mean(arms[600:] == 2) > 0.6
