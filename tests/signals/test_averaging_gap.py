"""The averaging gap: the excess loss of params over their average, to first order."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optax_adaptive.signals import averaging_gap
from optax_adaptive.transforms import _average


def test_product_is_the_loss_above_that_of_the_average():
    """For a quadratic, up to the second order, whatever the dtypes."""
    params = {"a": jnp.array([1.0, 2.0], jnp.bfloat16), "b": jnp.array(3.0)}
    average = {"a": jnp.array([0.5, 2.0]), "b": jnp.array(3.01)}

    def loss(params):
        squares = [jnp.sum(jnp.square(p)) for p in jax.tree.leaves(params)]
        return sum(square.astype(jnp.float32) for square in squares) / 2.0

    product = averaging_gap.gap(average, params, jax.grad(loss)(params))
    assert product.shape == () and product.dtype == jnp.float32
    np.testing.assert_allclose(product, 0.5 * 1.0 - 0.01 * 3.0, rtol=1e-3)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_it_is_0_where_it_is_not_measured(dtype):
    average, params, grads = jnp.ones(2), jnp.full(2, 1.5, dtype), jnp.ones(2, dtype)

    def measure(is_measured):
        product, is_measured = averaging_gap.gap, jnp.array(is_measured)
        return averaging_gap.compute_if(product, is_measured, average, params, grads)

    assert measure(True).dtype == jnp.float32
    assert float(measure(True)) == 1.0 and float(measure(False)) == 0.0


def test_masks_of_minus_infinity_and_what_is_complex():
    mask, ones = jnp.array([0.0, -jnp.inf]), jnp.ones(2)
    average, grads = {"m": mask, "w": ones}, {"m": jnp.zeros(2), "w": ones}
    params = {"m": mask, "w": 2.0 * ones}
    assert float(averaging_gap.gap(average, params, grads)) == 2.0
    turned = jax.lax.complex(0.0 * ones, ones)
    product = averaging_gap.gap(0.0 * turned, turned, turned)
    assert product.dtype == jnp.float32 and float(product) == 2.0
    assert float(averaging_gap.gap({}, {}, {})) == 0.0


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.complex64])
def test_displacement_is_the_update_over_the_size_of_params(dtype):
    kept = np.promote_types(dtype, np.float32)
    before = {"a": jnp.zeros(2, kept), "b": jnp.ones((), kept)}
    params = {"a": jnp.array([3.0, 0.0], dtype), "b": jnp.array(5.0, dtype)}
    moved = averaging_gap.displacement(before, params)
    assert moved.dtype == jnp.float32
    np.testing.assert_allclose(moved, 5.0 / (1.0 + 34.0**0.5), rtol=1e-6)


@pytest.mark.parametrize(
    ("number", "power"),
    [(-3, 1), (0, 1), (1, 1), (2, 2), (3, 2), (1024, 1024), (2**31 - 1, 2**30)],
)
def test_powers_of_two(number, power):
    assert int(_average.power_of_two(jnp.int32(number))) == power
    for multiple in (0, 1, 3, 7):
        multiple = min(multiple, (2**31 - 1) // power) * power
        is_multiple = _average.is_multiple
        assert is_multiple(jnp.int32(multiple), jnp.int32(power))
        assert power == 1 or not is_multiple(jnp.int32(multiple + 1), jnp.int32(power))
