"""The averaging gain: which way it moves a rate, and when it says nothing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optax_adaptive import _averaging, _gain

FIRST_LOSS, NOISE = 10.0, 0.1


def watch(products, losses, is_sample=None, offset=0.0):
    """log factors, one a step, for a hold that begins with the first of ``losses``."""
    steps = len(losses)
    is_sample = np.ones(steps, bool) if is_sample is None else is_sample

    def step(gain, row):
        product, loss, elapsed, is_sample = row
        return _gain.watch(
            gain,
            loss,
            product,
            elapsed,
            FIRST_LOSS + offset,
            NOISE,
            is_sample=is_sample,
        )

    rows = (
        jnp.broadcast_to(jnp.asarray(products, jnp.float32), (steps,)),
        jnp.asarray(losses, jnp.float32),
        jnp.arange(1, steps + 1),
        jnp.asarray(is_sample),
    )
    return np.asarray(jax.lax.scan(step, _gain.first_gain(), rows)[1])


@pytest.mark.parametrize(
    ("ratio", "factor"),
    [
        (-1.0, _gain.HIGHEST),
        (0.0, _gain.HIGHEST),
        (_gain.LOW / 2, 2.0**_gain.POWER),
        (_gain.LOW * 1.01, 1.0),
        (_gain.HIGH * 0.99, 1.0),
        (_gain.HIGH * 2, 2.0**-_gain.POWER),
        (1e9, _gain.LOWEST),
    ],
)
@pytest.mark.parametrize("offset", [0.0, -90.0])
def test_a_rate_moves_to_the_nearer_bound(ratio, factor, offset):
    losses = FIRST_LOSS - 2.0 - 0.02 * np.arange(300)
    changes = watch(ratio * (FIRST_LOSS - losses), losses + offset, offset=offset)
    made = changes[changes != 0.0]
    assert (np.flatnonzero(changes) + 1 >= _gain.FIRST).all()
    assert len(made) == (0 if factor == 1.0 else 3)  # at 160, 213 and 284 steps
    np.testing.assert_allclose(made, np.log(factor), rtol=1e-4)


def test_a_rate_is_not_raised_where_noise_costs_more_than_the_last_block_won():
    """All progress is behind, and 1% of it is more than what is left."""
    losses = 0.2 * np.exp(-np.arange(400) / 100.0)
    assert not watch(0.01 * FIRST_LOSS, losses).any()
    assert (watch(-1e-6, losses) > 0.0).any()
    assert (watch(FIRST_LOSS, losses) < 0.0).any()


def test_no_progress_says_nothing():
    assert not watch(-1.0, np.full(400, FIRST_LOSS - 0.5 * NOISE)).any()
    assert not watch(-1.0, np.full(400, FIRST_LOSS + 5.0)).any()


def test_what_is_not_sampled_or_not_finite_does_not_count():
    losses = np.full(400, 5.0)
    products = np.where(np.arange(400) % 4 == 0, 0.5, np.inf)
    assert not watch(products, losses).any()
    is_sample = np.arange(400) % 4 == 0
    assert not watch(np.where(is_sample, 0.5, -9.0), losses, is_sample).any()
    assert not watch(0.0, losses, np.zeros(400, bool)).any()


def test_product_is_the_loss_above_that_of_the_average():
    """For a quadratic, up to the second order, whatever the dtypes."""
    params = {"a": jnp.array([1.0, 2.0], jnp.bfloat16), "b": jnp.array(3.0)}
    average = {"a": jnp.array([0.5, 2.0]), "b": jnp.array(3.01)}
    state = _averaging.AveragingState(average, jnp.array(5))

    def loss(params):
        squares = [jnp.sum(jnp.square(p)) for p in jax.tree.leaves(params)]
        return sum(square.astype(jnp.float32) for square in squares) / 2.0

    product = _gain.product(state, params, jax.grad(loss)(params))
    assert product.shape == () and product.dtype == jnp.float32
    np.testing.assert_allclose(product, 0.5 * 1.0 - 0.01 * 3.0, rtol=1e-3)
