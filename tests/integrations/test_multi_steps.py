"""multi_steps accumulates as optax.MultiSteps does, inside a chain."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from optax_adaptive import controllers, scale_by_controller
from optax_adaptive.integrations import multi_steps


@pytest.mark.parametrize("k", [1, 4])
def test_accumulates_as_optax_does(k):
    ours = optax.chain(
        multi_steps(optax.sgd(0.1, momentum=0.9), every_k_schedule=k),
        scale_by_controller(controllers.constant(), accumulation_size=2),
    )
    theirs = optax.MultiSteps(optax.sgd(0.1, momentum=0.9), every_k_schedule=k)
    params = jnp.ones(3)
    with jax.numpy_dtype_promotion("standard"):  # MultiSteps mixes dtypes
        update = jax.jit(lambda g, s: ours.update(g, s, params, value=jnp.sum(g)))
        expected_update = jax.jit(lambda g, s: theirs.update(g, s, params))
        state, expected_state = ours.init(params), theirs.init(params)
        for step in range(2 * k):
            grads = jnp.full(3, step, jnp.float32)
            updates, state = update(grads, state)
            expected, expected_state = expected_update(grads, expected_state)
            np.testing.assert_array_equal(updates, expected)


def test_a_plain_multi_steps_in_a_chain_loses_the_value():
    # Why multi_steps exists; if this starts to pass, it has become superfluous.
    tx = optax.chain(
        optax.MultiSteps(
            optax.chain(optax.sgd(0.1), scale_by_controller(controllers.constant())), 2
        )
    )
    params = jnp.ones(3)
    with jax.numpy_dtype_promotion("standard"):
        with pytest.raises(TypeError, match="value"):
            tx.update(params, tx.init(params), params, value=1.0)
