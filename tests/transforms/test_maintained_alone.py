"""maintain without a search: it keeps a good rate, and lowers one far too high."""

from functools import partial

import jax
import jax.numpy as jnp
import optax
import pytest

from optax_adaptive import (
    controllers,
    eval_params,
    scale_by_controller,
    summary,
    with_averaging,
    with_rollback,
)
from optax_adaptive.controllers.maintain import MaintainSettings


def regression(rule, rate, steps=1000):
    """Of inputs of many sizes, targets with noise: excess loss, summary, restores."""
    tx = optax.chain(optax.adam(rate), scale_by_controller(rule))
    tx = with_averaging(with_rollback(tx, backoff=1.0), fraction=0.1)
    sizes = jnp.logspace(0.0, -1.0, 20)
    weights = 3.0 * jnp.linspace(-1.0, 1.0, 20) / sizes

    def step(carry, key):
        params, state = carry
        first, second = jax.random.split(key)
        inputs = jax.random.normal(first, (16, 20)) * sizes[None, :]
        targets = inputs @ weights + jax.random.normal(second, (16,))
        loss, grads = jax.value_and_grad(
            lambda p: jnp.mean(jnp.square(inputs @ p - targets))
        )(params)
        updates, state = tx.update(grads, state, params, value=loss)
        moved = optax.apply_updates(params, updates)
        return (moved, state), state.inner_state.snapshot.is_restored

    params = jnp.zeros(20)
    start = params, tx.init(params)
    keys = jax.random.split(jax.random.key(0), steps)
    with jax.numpy_dtype_promotion("standard"):  # Adam mixes dtypes
        (params, state), restored = jax.jit(partial(jax.lax.scan, step))(start, keys)
    ahead = (eval_params(state, params) - weights) * sizes
    return float(jnp.sum(jnp.square(ahead))), summary(state), restored.any()


def test_alone_it_keeps_a_good_rate():
    constant, _, _ = regression(controllers.constant(), 0.2)
    excess, numbers, is_restored = regression(controllers.maintain(), 0.2)
    assert 0.4 < numbers["lr_scale"] < 2.5
    assert not is_restored and excess < 1.2 * constant


@pytest.mark.parametrize("rate", [3.0, 10.0])
def test_alone_it_lowers_a_rate_far_too_high(rate):
    constant, _, _ = regression(controllers.constant(), rate)
    excess, numbers, _ = regression(controllers.maintain(), rate)
    assert rate * numbers["lr_scale"] < 1.0
    assert excess < 0.5 * constant


def test_settings_are_arguments():
    settings = MaintainSettings(shortest_block=1000, back_off=1.0)
    rule = controllers.maintain(settings=settings)
    assert int(rule.request(rule.init()).accumulation_size) == 1000
    _, numbers, _ = regression(rule, 10.0, 900)
    assert numbers["lr_scale"] == 1.0 and numbers["windows"] == 0
