"""Values, and states to read, of which nothing is silently ignored."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax.training.train_state import TrainState

from optax_adaptive import (
    autotune,
    controllers,
    lr_scale,
    observe,
    scale_by_controller,
    summary,
)

CONSTANT = controllers.constant()
ADAM = optax.adam(1e-3)


@pytest.mark.parametrize("value", [1 + 2j, jnp.array(1 + 2j), "0.5", None])
def test_an_observed_value_must_be_real(value):
    tx = scale_by_controller(CONSTANT, feedback="observe")
    with pytest.raises(TypeError, match="`value` must be real"):
        observe(tx.init(None), value)


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        (None, TypeError, "value=loss"),
        (jnp.ones(3), ValueError, r"\(3,\).*average"),
        (np.ones((1, 1)), ValueError, r"\(1, 1\).*average"),
        ([1.0, 2.0], TypeError, "one number, but it is a list"),
        (jax.random.key(0), TypeError, "`value` must be real"),
        (jnp.array(1j), TypeError, "complex64"),
    ],
)
def test_a_bad_value(value, error, message):
    tx = optax.chain(optax.sgd(1.0), scale_by_controller(CONSTANT))
    state = tx.init(jnp.ones(2))
    with pytest.raises(error, match=message):
        tx.update(jnp.ones(2), state, value=value)
    with pytest.raises(error, match=message):
        jax.jit(lambda state: tx.update(jnp.ones(2), state, value=value))(state)


def test_a_forgotten_value():
    tx = optax.chain(optax.sgd(1.0), scale_by_controller(CONSTANT))
    with pytest.raises(TypeError, match="value=loss"):
        tx.update(jnp.ones(2), tx.init(jnp.ones(2)))


@pytest.mark.parametrize("wrap", [lambda tx: tx, autotune])
def test_a_value_that_something_drops(wrap):
    """A linen TrainState, as any loop that does not know of it, and optax itself."""
    params = {"w": jnp.ones(2)}
    tx = wrap(optax.sgd(0.1))
    if wrap is not autotune:
        tx = optax.chain(tx, scale_by_controller(CONSTANT))
    state = TrainState.create(apply_fn=None, params=params, tx=tx)
    with pytest.raises(TypeError, match="TrainState use integrations.apply_gradients"):
        state.apply_gradients(grads=params, value=1.0)
    chained = optax.chain(optax.MultiSteps(tx, 2))
    with jax.numpy_dtype_promotion("standard"):  # MultiSteps mixes dtypes
        with pytest.raises(TypeError, match="MultiSteps .* integrations.multi_steps"):
            chained.update(params, chained.init(params), params, value=1.0)


@pytest.mark.parametrize("read", [lr_scale, summary, lambda state: observe(state, 1.0)])
@pytest.mark.parametrize("optimizer", [optax.adam(0.1), optax.sgd(0.1)])
def test_a_state_without_a_controller(read, optimizer):
    with pytest.raises(ValueError, match="no controller"):
        read(optimizer.init(jnp.ones(2)))


def test_an_observed_vector():
    state = scale_by_controller(CONSTANT, feedback="observe").init(None)
    with pytest.raises(ValueError, match=r"\(3,\).*average"):
        observe(state, jnp.ones(3))


def test_two_controllers_have_no_single_factor():
    tx = optax.chain(scale_by_controller(CONSTANT), scale_by_controller(CONSTANT))
    with pytest.raises(ValueError, match="2 controllers.*summary"):
        lr_scale(tx.init(None))


@pytest.mark.parametrize("wrap", [jax.jit, lambda function: function])
def test_a_loss_with_its_auxiliary_output(wrap):
    tx = scale_by_controller(CONSTANT)
    step = wrap(lambda state, value: tx.update({}, state, value=value))
    with pytest.raises(
        TypeError, match="`value` must be one number, but it is a tuple"
    ):
        step(tx.init({}), (1.0, {"accuracy": 0.5}))
    with pytest.raises(TypeError, match="`value` must be one number, but it is a list"):
        step(tx.init({}), [1.0])


def test_autotune_does_not_look_at_metrics_and_rules_of_others_may():
    with pytest.warns(
        UserWarning, match=r"\(here tuned\) decide by the training loss alone"
    ):
        observe(autotune(ADAM).init(jnp.zeros(2)), 1.0)
    mine = CONSTANT._replace(name="rule")
    observe(scale_by_controller(controllers.clip(mine, 2.0)).init({}), 1.0)


def test_windows_of_losses_are_not_taken_for_those_of_metrics():
    rule = controllers.plateau()
    state = scale_by_controller(rule).init({})
    with pytest.raises(ValueError, match="plateau-32-observed-v.*it is 'plateau-32-v"):
        scale_by_controller(rule, feedback="observe").update({}, state)
