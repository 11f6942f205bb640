"""Parameters of any dtype, and none at all."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from optax_adaptive import lr_scale
from tests.contract.rules import every_rule, scaling, sgd_with, stream

DTYPES = ["float16", "bfloat16", "float32", "float64"]


def dtype_of(leaf):
    return leaf.dtype


@every_rule
def test_updates_keep_their_dtype_and_the_state_its_own(rule):
    tx = scaling(rule)
    with jax.enable_x64(True):
        updates = {dtype: jnp.ones(2, dtype) for dtype in DTYPES}
        state = jax.eval_shape(tx.init, None)
        # By types alone: what is compiled does not know of any others.
        scaled, new_state = jax.eval_shape(
            lambda state, value: tx.update(updates, state, value=value),
            *(state, jnp.ones((), jnp.float64)),
        )
    assert all(scaled[dtype].dtype == jnp.dtype(dtype) for dtype in DTYPES)
    assert all(not leaf.weak_type for leaf in jax.tree.leaves(new_state))
    assert jax.tree.map(dtype_of, new_state) == jax.tree.map(dtype_of, state)
    assert new_state.lr_scale.dtype == jnp.float32


# Of the updates a rule is shown their size alone, which learned alone looks at.
@pytest.mark.parametrize("rule", ["trend", "learned"])
def test_decisions_do_not_depend_on_the_dtype_of_the_parameters(rule):
    tx = scaling(rule)

    @jax.jit
    def scales(update):
        def step(state, value):
            _, state = tx.update(update, state, value=value)
            return state, state.lr_scale

        return jax.lax.scan(step, tx.init(update), stream())[1]

    expected = scales(jnp.ones(2))
    np.testing.assert_array_equal(scales(jnp.ones(2, jnp.bfloat16)), expected)


@every_rule
def test_init_reads_no_parameter(rule):
    tx = scaling(rule)
    params = {"w": jnp.ones((2, 3), jnp.bfloat16), "b": jnp.ones(3)}
    abstract = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), params)
    expected = tx.init(params)
    for other in (abstract, {}, None, optax.MaskedNode()):
        jax.tree.map(np.testing.assert_array_equal, tx.init(other), expected)
    shapes = jax.tree.map(jnp.shape, expected)
    assert jax.tree.map(jnp.shape, jax.eval_shape(tx.init, params)) == shapes


@every_rule
def test_map_params_leaves_the_controller_alone(rule):
    params = {"w": jnp.ones((2, 3)), "b": jnp.ones(3)}
    tx = optax.chain(optax.adam(0.1), scaling(rule))
    state = tx.init(params)
    for init_or_tx in (tx, tx.init):
        mapped = optax.tree.map_params(init_or_tx, lambda leaf: leaf + 1, state)
        jax.tree.map(np.testing.assert_array_equal, mapped[1], state[1])
        np.testing.assert_array_equal(mapped[0][0].mu["w"], np.ones((2, 3)))


@every_rule
def test_the_factor_is_found_by_name(rule):
    state = sgd_with(rule).init(jnp.ones(2))
    assert optax.tree.get(state, "lr_scale") == lr_scale(state)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_a_factor_too_small_for_the_dtype_still_scales(dtype):
    tx = scaling("range_test")  # starts at 1e-3 here
    updates, _ = tx.update(jnp.array(1e4, dtype), tx.init(None), value=1.0)
    np.testing.assert_allclose(np.float32(updates), 10, rtol=1e-2)
