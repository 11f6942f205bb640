"""nnx.Optimizer hands the loss on and wraps each leaf of the state in a Variable."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from optax_adaptive import (
    autotune,
    controllers,
    eval_params,
    lr_scale,
    observe,
    scale_by_controller,
    select_on_rollback,
    summary,
)


def make(feedback):
    model = nnx.Linear(2, 1, rngs=nnx.Rngs(0))
    rule = controllers.plateau(0.5, patience=1)
    tx = scale_by_controller(rule, accumulation_size=1, feedback=feedback)
    return model, nnx.Optimizer(model, tx, wrt=nnx.Param)


def step(model, optimizer, metric):
    grads = nnx.grad(lambda model: jnp.sum(model(jnp.ones((3, 2)))))(model)
    optimizer.update(model, grads, value=metric)


def test_the_loss_is_handed_on_and_the_factor_read():
    model, optimizer = make("value")
    jitted = nnx.jit(step)
    for loss in (1.0, 1.0, 1.0):
        jitted(model, optimizer, jnp.float32(loss))
    scale = lr_scale(optimizer.opt_state)
    assert isinstance(scale, jax.Array)
    assert scale == pytest.approx(0.25)
    assert summary(optimizer.opt_state)["windows"] == 3


@pytest.mark.parametrize("jit", [nnx.jit, lambda function: function])
def test_observe_inside_jit_and_outside(jit):
    @jit
    def validate(optimizer, metric):
        optimizer.opt_state = observe(optimizer.opt_state, metric)

    model, optimizer = make("observe")
    jitted = nnx.jit(step)
    for metric in (1.0, 2.0):
        validate(optimizer, jnp.float32(metric))
        jitted(model, optimizer, None)
    assert lr_scale(optimizer.opt_state) == pytest.approx(0.5)
    assert summary(optimizer.opt_state)["last_value"] == 2


def test_the_average_and_the_search_are_read():
    model = nnx.Linear(2, 1, rngs=nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, autotune(optax.sgd(0.1)), wrt=nnx.Param)
    step(model, optimizer, jnp.float32(1.0))
    numbers = summary(optimizer.opt_state)
    assert all(type(number) is type(numbers["lr_scale"]) for number in numbers.values())
    params = nnx.state(model, nnx.Param)
    averaged = eval_params(optimizer.opt_state, params)
    nnx.update(model, averaged)
    assert jax.tree.structure(averaged) == jax.tree.structure(params)
    current = {"seen": jnp.ones(2)}
    healthy, seen = select_on_rollback(optimizer.opt_state, current, current)
    jax.tree.map(np.testing.assert_array_equal, (healthy, seen), (current, current))
