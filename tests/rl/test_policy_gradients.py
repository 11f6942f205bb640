"""Policy gradients against hand-computed numbers, scipy and rlax."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from optax_adaptive import rl
from tests.references.rlax_reference import rlax


def test_generalized_advantages_by_hand():
    # Errors: 1 + .5 * 4 - 2 = 1 and 3 + .5 * 2 - 4 = 0; then 1 + .5 * .5 * 0 = 1.
    v = jnp.float32([2, 4, 2])
    advantages = rl.generalized_advantages(
        v, jnp.float32([1, 4]), jnp.float32([0.5, 0.5]), 0.5
    )
    np.testing.assert_allclose(advantages, [1.25, 1.0])


@pytest.mark.parametrize("lambda_", [0.0, 0.95, 1.0])
def test_generalized_advantages_are_rlax_s(lambda_):
    rng = np.random.default_rng(0)
    v, r = (jnp.asarray(rng.normal(size=n), jnp.float32) for n in (9, 8))
    discounts = jnp.full(8, 0.99)
    expected = rlax.truncated_generalized_advantage_estimation(r, discounts, lambda_, v)
    np.testing.assert_allclose(
        rl.generalized_advantages(v, r, discounts, lambda_), expected, rtol=1e-4
    )


def test_clipped_surrogate_is_rlax_s():
    rng = np.random.default_rng(0)
    log_ratio = jnp.asarray(rng.normal(0, 0.3, 50), jnp.float32)
    advantage = jnp.asarray(rng.normal(size=50), jnp.float32)

    def mine(x):
        return -jnp.mean(rl.clipped_surrogate(x, advantage, 0.2))

    def theirs(x):
        return rlax.clipped_surrogate_pg_loss(jnp.exp(x), advantage, 0.2)

    np.testing.assert_allclose(mine(log_ratio), theirs(log_ratio), rtol=1e-5)
    np.testing.assert_allclose(
        jax.grad(mine)(log_ratio), jax.grad(theirs)(log_ratio), atol=1e-6
    )


def test_no_gradient_beyond_the_clip():
    gradient = jax.grad(lambda x: jnp.sum(rl.clipped_surrogate(x, jnp.ones(2), 0.2)))
    np.testing.assert_allclose(
        gradient(jnp.log(jnp.float32([1.1, 1.3]))), [1.1, 0], rtol=1e-6
    )


def test_gaussian_is_scipy_s():
    x, mean, deviation = 0.7, -0.2, 0.4
    normal = stats.norm(mean, deviation)
    log_std = jnp.log(jnp.float32(deviation))
    np.testing.assert_allclose(
        rl.gaussian_log_prob(jnp.float32(x), jnp.float32(mean), log_std),
        normal.logpdf(x),
        rtol=1e-5,
    )
    np.testing.assert_allclose(
        rl.gaussian_entropy(log_std), normal.entropy(), rtol=1e-5
    )
