"""Params with masks of -inf, frozen parts, and optimizers with line searches."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from optax_adaptive import (
    autotune,
    eval_params,
    select_on_rollback,
    summary,
    with_averaging,
    with_rollback,
)

PARAMS = {"w": jnp.zeros(4), "mask": jnp.array([0.0, -jnp.inf])}


def loss_fn(params):
    logits = params["w"][:2] + jax.lax.stop_gradient(params["mask"])
    chosen = jax.nn.softmax(logits) @ jnp.ones(2)
    return chosen * jnp.sum(jnp.square(params["w"] - 1.0))


def train(tx, params, steps, losses=lambda step, loss: loss):
    def step(carry, i):
        params, state = carry
        loss, grads = jax.value_and_grad(loss_fn)(params)
        updates, state = tx.update(grads, state, params, value=losses(i, loss))
        return (optax.apply_updates(params, updates), state), loss

    carry, _ = jax.lax.scan(step, (params, tx.init(params)), jnp.arange(steps))
    return carry


@pytest.mark.parametrize("interpolate", [False, True])
def test_a_mask_of_minus_infinity_does_not_stop_autotune(interpolate):
    tx = autotune(optax.sgd(1e-6), total_steps=300, interpolate=interpolate)
    params, state = train(tx, PARAMS, 300)
    averaged = eval_params(state, params)
    assert int(summary(state)["phase"]) == 3
    assert float(loss_fn(averaged)) < 1e-2
    np.testing.assert_array_equal(averaged["mask"], PARAMS["mask"])


def test_a_mask_of_minus_infinity_survives_a_rollback():
    tx = with_averaging(with_rollback(optax.sgd(0.1)))
    params, state = train(
        tx, PARAMS, 40, lambda i, loss: jnp.where((20 < i) & (i < 31), jnp.nan, loss)
    )
    assert summary(state)["rollbacks"] >= 1
    for found in (params, eval_params(state, params)):
        np.testing.assert_array_equal(found["mask"], PARAMS["mask"])
        assert np.all(np.isfinite(found["w"]))


@pytest.mark.parametrize("label", ["head", {"a": "head", "b": "head"}])
def test_averages_are_read_where_the_rest_is_frozen(label):
    frozen = {"a": jnp.ones(2), "b": jnp.ones(3)}
    tx = optax.partition(
        {"head": with_averaging(optax.sgd(0.1)), "rest": optax.set_to_zero()},
        {"body": "rest", "head": label},
    )
    params = {"body": frozen, "head": {"a": jnp.ones(2), "b": jnp.ones(3)}}
    state = tx.init(params)
    for _ in range(3):  # of which the average has taken in two
        updates, state = tx.update(jax.tree.map(jnp.ones_like, params), state, params)
        params = optax.apply_updates(params, updates)
    averaged = eval_params(state, params)
    jax.tree.map(np.testing.assert_array_equal, averaged["body"], frozen)
    np.testing.assert_allclose(averaged["head"]["a"], 0.85, atol=0.01)


def test_a_copy_for_rollback_is_no_average():
    tx = with_rollback(with_averaging(optax.sgd(0.1)))
    params, state = train(tx, {"w": jnp.zeros(4), "mask": jnp.zeros(2)}, 10)
    assert np.all(np.isfinite(eval_params(state, params)["w"]))


def test_params_of_other_shapes_are_an_error():
    tx = with_averaging(optax.sgd(0.1))
    state = tx.init({"w": jnp.ones(3)})
    with pytest.raises(ValueError, match=r"shape \(\) has an average of shape \(3,\)"):
        eval_params(state, {"x": jnp.float32(7.0)})


def search_line(tx):
    """An update with all that the line search of L-BFGS wants."""

    def value_fn(params):
        return jnp.sum(jnp.square(params - 3.0))

    params = jnp.ones(3)
    loss, grads = jax.value_and_grad(value_fn)(params)
    updates, _ = tx.update(
        *(grads, tx.init(params), params),
        value=loss,
        grad=grads,
        value_fn=value_fn,
    )
    return updates


@pytest.mark.parametrize("wrap", [with_averaging, with_rollback, autotune])
def test_a_line_search_is_not_handed_what_the_wrappers_measure(wrap):
    assert np.all(np.isfinite(search_line(wrap(optax.lbfgs()))))


def wide_gradients(tx, steps=5):
    """Of params in bfloat16, as clipping or accumulation in float32 makes them."""
    params = {"w": jnp.ones(4, jnp.bfloat16)}
    grads = {"w": jnp.ones(4, jnp.float32)}
    step = jax.jit(lambda state, params: tx.update(grads, state, params, value=1.0))
    state = tx.init(params)
    for _ in range(steps):
        updates, state = step(state, params)
        params = optax.apply_updates(params, updates)
    return params, state


@pytest.mark.parametrize("wrap", [with_rollback, autotune, with_averaging])
def test_gradients_of_a_wider_dtype_than_params(wrap):
    with jax.numpy_dtype_promotion("standard"):  # as Adam itself needs here
        params, state = wide_gradients(wrap(optax.adam(0.1)))
    assert params["w"].dtype == jnp.bfloat16
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(params))


@pytest.mark.parametrize("wrap", [with_rollback, autotune, with_averaging])
def test_numbers_of_python_are_parameters_too(wrap):
    tx, params = wrap(optax.sgd(0.1)), {"temperature": 1.0}
    state = tx.init(params)
    updates, state = tx.update({"temperature": 1.0}, state, params, value=1.0)
    assert jnp.shape(updates["temperature"]) == ()
    if wrap is not with_rollback:
        assert jnp.shape(eval_params(state, params)["temperature"]) == ()


@pytest.mark.parametrize("wrap", [with_rollback, autotune, with_averaging])
@pytest.mark.parametrize("mask", [jnp.array([True, False]), jnp.array([3, 4])])
def test_masks_of_any_dtype_stay_as_they_are(wrap, mask):
    params = {"w": jnp.ones(2), "mask": mask}
    tx = wrap(optax.sgd(0.1))
    state, losses = tx.init(params), (1.0, np.nan, np.nan, np.nan, 1.0)
    for loss in losses:
        grads = {"w": params["w"], "mask": jnp.zeros_like(mask)}
        with jax.numpy_dtype_promotion("standard"):  # as optax itself needs here
            updates, state = tx.update(grads, state, params, value=loss)
            params = optax.apply_updates(params, updates)
    assert params["mask"].dtype == mask.dtype
    np.testing.assert_array_equal(params["mask"], mask)
    assert np.all(np.isfinite(params["w"]))


@pytest.mark.parametrize("wrap", [with_rollback, autotune, with_averaging])
@pytest.mark.parametrize("optimizer", [optax.sgd(0.1), optax.adam(0.1)])
def test_what_is_no_array_is_refused_by_name(wrap, optimizer):
    params = {"w": jnp.ones(2), "activation": jax.nn.relu}
    with pytest.raises(TypeError, match="'activation'.*eqx.filter"):
        wrap(optimizer).init(params)


@pytest.mark.parametrize("wrap", [with_rollback, autotune, with_averaging])
def test_gradients_that_were_not_averaged_are_refused(wrap):
    tx, params = wrap(optax.sgd(0.1)), {"w": jnp.ones(2)}
    state = tx.init(params)
    with pytest.raises(ValueError, match=r"\(5, 2\) is for params of shape \(2,\)"):
        tx.update({"w": jnp.ones((5, 2))}, state, params, value=1.0)


@pytest.mark.parametrize("wrap", [with_rollback, autotune, with_averaging])
def test_state_and_params_in_the_wrong_order(wrap):
    tx, params = wrap(optax.sgd(0.1)), {"w": jnp.ones(2)}
    with pytest.raises(ValueError, match="the state must be that of with_"):
        tx.update(params, params, tx.init(params), value=1.0)


@pytest.mark.parametrize("read", [eval_params, select_on_rollback])
def test_one_of_several_states_is_asked_for(read):
    tx = optax.partition(
        {"one": autotune(optax.sgd(0.1)), "other": autotune(optax.sgd(0.1))},
        {"a": "one", "b": "other"},
    )
    params = {"a": jnp.ones(2), "b": jnp.ones(3)}
    arguments = (params,) if read is eval_params else (params, params)
    with pytest.raises(ValueError, match="found 2. Hand in the part of the state"):
        read(tx.init(params), *arguments)
