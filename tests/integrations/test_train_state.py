"""apply_gradients gives linen's TrainState what its own method withholds."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax.training.train_state import TrainState

from optax_adaptive import controllers, lr_scale, scale_by_controller, summary
from optax_adaptive.integrations import apply_gradients


def make(tx):
    return TrainState.create(
        apply_fn=lambda params: params, params={"w": jnp.ones(2)}, tx=tx
    )


def test_the_loss_reaches_the_controller():
    rule = controllers.plateau(0.5, patience=1)
    tx = optax.chain(optax.sgd(0.1), scale_by_controller(rule, accumulation_size=1))
    state = make(tx)
    step = jax.jit(lambda s, loss: apply_gradients(s, grads=s.params, value=loss))
    for loss in np.float32([1, 1, 1]):
        state = step(state, loss)
    assert lr_scale(state.opt_state) == pytest.approx(0.25)
    assert state.step == 3
    expected = (1 - 0.1) * (1 - 0.05) * (1 - 0.025)
    np.testing.assert_allclose(state.params["w"], expected, rtol=1e-5)


@pytest.mark.parametrize("as_transformation", [False, True])
def test_the_loss_reaches_it_through_gradient_accumulation(as_transformation):
    rule = scale_by_controller(controllers.constant(), accumulation_size=1)
    tx = optax.MultiSteps(optax.chain(optax.sgd(0.1), rule), 2)
    state = make(tx.gradient_transformation() if as_transformation else tx)
    for loss in (3.0, 2.0):
        with jax.numpy_dtype_promotion("standard"):  # as MultiSteps itself needs here
            state = apply_gradients(state, grads=state.params, value=loss)
    assert summary(state.opt_state)["last_value"] == 2.0
    np.testing.assert_allclose(state.params["w"], 0.9, rtol=1e-6)


def test_it_is_linens_own_method_where_no_controller_is():
    state = make(optax.sgd(0.1))
    ours = apply_gradients(state, grads=state.params, value=1.0)
    theirs = state.apply_gradients(grads=state.params)
    np.testing.assert_array_equal(ours.params["w"], theirs.params["w"])
    assert ours.step == theirs.step


def test_what_takes_its_gradient_for_its_value_does_so():
    overwritten = "_overwrite_with_gradient"  # as the scales of FP8 in Flax
    params = {"params": {"w": jnp.ones(2)}, overwritten: {"s": jnp.ones(())}}
    tx = optax.chain(optax.sgd(0.1), scale_by_controller(controllers.constant()))
    state = TrainState.create(apply_fn=None, params=params, tx=tx)
    grads = {"params": {"w": jnp.ones(2)}, overwritten: {"s": jnp.float32(7.0)}}
    state = apply_gradients(state, grads=grads, value=1.0)
    assert state.params[overwritten]["s"] == 7.0
    assert state.tx is tx
