"""hold is bitwise the bare optimizer."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from optax_adaptive import controllers, scale_by_controller


def held(optimizer):
    rule = controllers.constant()
    return optax.chain(optimizer, scale_by_controller(rule, accumulation_size=2))


def test_hold_is_bitwise_the_bare_optimizer(optimized):
    @partial(jax.jit, compiler_options=optimized)
    def value_and_grad(params):
        def loss_fn(params):
            weights = jnp.arange(1, 8, dtype=jnp.float32)
            return jnp.sum(jnp.square(params - 0.3) * weights)

        return jax.value_and_grad(loss_fn)(params)

    # A step at a time: where a step is one program with the sum of parameters and
    # updates, XLA may round the two products before it differently.
    def train(optimizer):
        update = jax.jit(optimizer.update, compiler_options=optimized)
        params, losses = jnp.linspace(-1, 1, 7), []
        state = optimizer.init(params)
        for _ in range(40):
            loss, grads = value_and_grad(params)
            updates, state = update(grads, state, params, value=loss)
            params = optax.apply_updates(params, updates)
            losses.append(loss)
        return params, losses

    bare = optax.with_extra_args_support(optax.adam(0.1))
    with jax.numpy_dtype_promotion("standard"):  # Adam mixes dtypes
        bare_params, bare_losses = train(bare)
        held_params, held_losses = train(held(bare))
    np.testing.assert_array_equal(bare_params, held_params)
    np.testing.assert_array_equal(bare_losses, held_losses)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_hold_is_bitwise_the_bare_optimizer_in_low_precision(optimized, dtype):
    # A step at a time: within one jit XLA may keep low-precision values in float32.
    bare = optax.with_extra_args_support(optax.sgd(0.1, momentum=0.9))
    wrapped = held(bare)
    jit = partial(jax.jit, compiler_options=optimized)
    bare_update, held_update = jit(bare.update), jit(wrapped.update)
    grads = jnp.linspace(-1, 1, 7, dtype=dtype)
    bare_state, held_state = bare.init(grads), wrapped.init(grads)
    for _ in range(5):
        bare_updates, bare_state = bare_update(grads, bare_state, grads, value=1.0)
        held_updates, held_state = held_update(grads, held_state, grads, value=1.0)
        assert held_updates.dtype == jnp.dtype(dtype)
        np.testing.assert_array_equal(bare_updates, held_updates)
        grads = grads * grads
