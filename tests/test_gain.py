"""What averaging gains, measured."""

import jax
import jax.numpy as jnp
import numpy as np

from optax_adaptive import _gain


def test_product_is_the_loss_above_that_of_the_average():
    """For a quadratic, up to the second order, whatever the dtypes."""
    params = {"a": jnp.array([1.0, 2.0], jnp.bfloat16), "b": jnp.array(3.0)}
    average = {"a": jnp.array([0.5, 2.0]), "b": jnp.array(3.01)}

    def loss(params):
        squares = [jnp.sum(jnp.square(p)) for p in jax.tree.leaves(params)]
        return sum(square.astype(jnp.float32) for square in squares) / 2.0

    product = _gain.product(average, params, jax.grad(loss)(params))
    assert product.shape == () and product.dtype == jnp.float32
    np.testing.assert_allclose(product, 0.5 * 1.0 - 0.01 * 3.0, rtol=1e-3)
