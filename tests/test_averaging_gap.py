"""What averaging gains, measured."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optax_adaptive import _noise_cost


def test_product_is_the_loss_above_that_of_the_average():
    """For a quadratic, up to the second order, whatever the dtypes."""
    params = {"a": jnp.array([1.0, 2.0], jnp.bfloat16), "b": jnp.array(3.0)}
    average = {"a": jnp.array([0.5, 2.0]), "b": jnp.array(3.01)}

    def loss(params):
        squares = [jnp.sum(jnp.square(p)) for p in jax.tree.leaves(params)]
        return sum(square.astype(jnp.float32) for square in squares) / 2.0

    product = _noise_cost.product(average, params, jax.grad(loss)(params))
    assert product.shape == () and product.dtype == jnp.float32
    np.testing.assert_allclose(product, 0.5 * 1.0 - 0.01 * 3.0, rtol=1e-3)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("interpolation", [0.0, np.float64(0.75)])
def test_measured_at_the_point_that_the_optimizer_moves(interpolation, dtype):
    average, params, grads = jnp.ones(2), jnp.full(2, 1.5, dtype), jnp.ones(2, dtype)

    def measure(is_measured):
        return _noise_cost.measure(
            *(average, params, grads),
            is_measured=jnp.array(is_measured),
            interpolation=interpolation,
        )

    cost = measure(True)
    assert cost.value.dtype == jnp.float32 and bool(cost.is_new)
    np.testing.assert_allclose(cost.value, 1.0 / (1.0 - interpolation), rtol=1e-6)
    assert float(measure(False).value) == 0.0 and not bool(measure(False).is_new)
