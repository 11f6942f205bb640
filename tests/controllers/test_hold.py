"""hold is bitwise the bare optimizer."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from optax_adaptive import controllers, scale_by_controller


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_hold_is_bitwise_the_bare_optimizer(dtype):
    def train(optimizer):
        def step(carry, _):
            params, state = carry
            loss, grads = jax.value_and_grad(lambda p: jnp.sum(p**4) + p[0])(params)
            updates, state = optimizer.update(grads, state, params, value=loss)
            return (optax.apply_updates(params, updates), state), loss

        params = jnp.linspace(-1, 1, 7, dtype=dtype)
        carry = params, optimizer.init(params)
        return jax.lax.scan(step, carry, length=30)[0][0]

    with jax.numpy_dtype_promotion("standard"):  # Adam mixes dtypes
        bare = train(optax.with_extra_args_support(optax.adam(0.1)))
        held = train(
            optax.chain(
                optax.adam(0.1),
                scale_by_controller(controllers.hold(), accumulation_size=2),
            )
        )
    np.testing.assert_array_equal(bare, held)
    assert bare.dtype == held.dtype == jnp.dtype(dtype)
