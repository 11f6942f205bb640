"""autotune: its search outlasts losses and gradients that say nothing."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import optax_adaptive


@functools.cache
def descending():
    """A jitted run of 400 steps of autotune down a quadratic; params of each step.

    Of these steps arrays say where a loss, and where a gradient, is another.
    """
    tx = optax_adaptive.autotune(optax.sgd(1e-3), total_steps=400)

    def step(carry, row):
        has_loss, other_loss, has_grad, other_grad = row
        params, state = carry
        loss, grad = jax.value_and_grad(lambda p: jnp.sum(jnp.square(p - 1.0)))(params)
        grad = jnp.where(has_grad, other_grad, grad)
        value = jnp.where(has_loss, other_loss, loss)
        updates, state = tx.update(grad, state, params, value=value)
        return (optax.apply_updates(params, updates), state), params

    params = jnp.zeros(3)
    return jax.jit(lambda rows: jax.lax.scan(step, (params, tx.init(params)), rows))


def descend(is_other, loss=None, grad=None):
    """Largest error of the average, summary, and params of each step."""
    others = [
        np.broadcast_to(column, (400,))
        for number in (loss, grad)
        for column in (is_other & (number is not None), np.float32(number or 0.0))
    ]
    (params, state), seen = descending()(tuple(others))
    averaged = optax_adaptive.eval_params(state, params)
    error = float(jnp.abs(averaged - 1.0).max())
    return error, optax_adaptive.summary(state), np.asarray(seen)


@pytest.mark.parametrize(
    "others", [dict(loss=np.nan), dict(grad=np.inf), dict(grad=0.0)], ids=str
)
@pytest.mark.parametrize("steps", [6, 12, 30])
def test_calibration_outlasts_steps_that_tell_nothing(others, steps):
    error, numbers, seen = descend(np.arange(400) < steps, **others)
    assert np.abs(seen[:steps]).max() < 1e-4
    assert numbers["phase"] == 3 and 1.0 < numbers["found_scale"] < 1e4
    assert error < 0.05


@pytest.mark.parametrize("every", [2, 3])
def test_losses_of_inf_among_others_lose_no_trial(every):
    error, *_ = descend(np.arange(400) % every == 0, loss=np.inf)
    assert error < 0.1


@functools.cache
def found_without():
    _, numbers, _ = descend(np.zeros(400, bool))
    return float(numbers["found_scale"])


@pytest.mark.parametrize("length", [1, 5, 10, 11, 30])
@pytest.mark.parametrize("start", [3, 16, 40, 60, 75])
def test_a_burst_in_any_phase_does_not_change_what_is_found(start, length):
    """It costs its steps, and the trial that it stops is repeated."""
    steps = np.arange(400)
    is_bad = (steps >= start) & (steps < start + length)
    error, numbers, _ = descend(is_bad, loss=np.nan)
    assert numbers["phase"] == 3 and error < 0.05
    np.testing.assert_allclose(numbers["found_scale"], found_without(), rtol=0.2)
