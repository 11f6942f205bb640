"""Under vmap, cond, scan and donation."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from optax_adaptive import controllers, observe, summary
from tests.contract.rules import (
    every_rule,
    followed,
    scaled,
    scaling,
    stepping,
    stream,
    tunable,
)
from tests.helpers.follow import follow


@every_rule
def test_vmap_over_values(rule):
    values = np.stack([stream(seed) for seed in range(3)])
    scales, _ = jax.vmap(followed(rule))(values)
    for one, expected in zip(values, scales, strict=True):
        np.testing.assert_allclose(followed(rule)(one)[0], expected, rtol=1e-5)


@every_rule
def test_vmap_over_hyperparameters(rule):
    hyperparams = tunable(rule)
    if not hyperparams:
        pytest.skip(f"{rule} has no hyperparameters")
    run = jax.vmap(
        lambda hyperparams: follow(scaled(controllers.REGISTRY[rule](**hyperparams)))(
            stream()
        )[0]
    )
    copies = {
        name: jnp.full(2, default, jnp.float32 if type(default) is float else jnp.int32)
        for name, default in hyperparams.items()
    }
    expected, _ = followed(rule)(stream())
    for scales in run(copies):
        np.testing.assert_allclose(scales, expected, rtol=1e-5)


@every_rule
def test_the_state_goes_through_cond(rule):
    tx = optax.chain(optax.sgd(0.1, momentum=0.9), scaling(rule))
    params = {name: jnp.ones(2, name) for name in ("float16", "bfloat16", "float32")}

    @jax.jit
    def maybe(state, is_on, value):
        return jax.lax.cond(
            is_on,
            lambda state: tx.update(params, state, params, value=value)[1],
            lambda state: state,
            state,
        )

    state = tx.init(params)
    value = jnp.array(2, jnp.float16)
    kept = maybe(state, False, value)
    jax.tree.map(np.testing.assert_array_equal, kept, state)
    after = maybe(maybe(state, True, value), True, value)
    # Two values: a window of SETTINGS, unless the rule asks for others.
    windows = {"search": 2, "tuned": 2}
    assert summary(after)["windows"] == windows.get(rule, 1)
    assert jax.tree.map(jnp.result_type, after) == jax.tree.map(jnp.result_type, state)


@every_rule
def test_no_two_leaves_share_a_buffer(rule):
    step, state = stepping(rule), scaling(rule).init(None)
    for value in stream()[:5]:
        before = observe(state, np.float32(0.5))
        state = step(before, value)
        assert all(leaf.is_deleted() for leaf in jax.tree.leaves(before))
    pointers = [leaf.unsafe_buffer_pointer() for leaf in jax.tree.leaves(state)]
    assert len(set(pointers)) == len(pointers)


@every_rule
@pytest.mark.filterwarnings("ignore:autotune decides by the training loss alone")
def test_observe_is_the_same_inside_jit_and_outside(rule):
    state = scaling(rule).init(None)
    inside, outside = jax.jit(observe)(state, 0.25), observe(state, 0.25)
    jax.tree.map(np.testing.assert_array_equal, inside, outside)
    assert jax.tree.map(jnp.result_type, outside) == jax.tree.map(
        jnp.result_type, state
    )
