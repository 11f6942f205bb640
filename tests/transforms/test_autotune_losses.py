"""autotune: losses that spike, blow up, lie flat, or fall without end."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import optax_adaptive
from tests.helpers.regression import (
    STEPS,
    make_step,
    noisy,
    squared_error,
    student,
    teacher,
    train,
)

pytestmark = pytest.mark.usefixtures("standard_promotion")


def negative(params, batch, key):
    del key
    return squared_error(params, batch) - 5.0


def spiky(params, batch, key):
    is_spike = jax.random.bernoulli(key, 0.02)
    return squared_error(params, batch) * jnp.where(is_spike, 100.0, 1.0)


def flat(params, batch, key):
    """Starts where hardly anything can be learned: the output is a product of ~0."""
    del key
    return squared_error(jax.tree.map(lambda p: 0.1 * p, params), batch)


def sometimes_nan(params, batch, key):
    is_bad = jax.random.bernoulli(key, 0.05)
    return jnp.where(is_bad, jnp.nan, 1.0) * squared_error(params, batch)


@pytest.mark.parametrize(
    "tx",
    [
        optax_adaptive.autotune(optax.adam(1.0), total_steps=STEPS),
        pytest.param(
            optax_adaptive.autotune(optax.adam(1.0, b1=0.0), interpolate=True),
            marks=pytest.mark.slow,
        ),
    ],
)
@pytest.mark.parametrize(
    "loss_fn",
    [
        *(pytest.param(fn, marks=pytest.mark.slow) for fn in (negative, noisy, flat)),
        *(spiky, sometimes_nan),
    ],
)
def test_adverse_losses(loss_fn, tx):
    _, _, state, params = train(tx, loss_fn)
    evaluated = optax_adaptive.eval_params(state, params)
    if loss_fn is flat:
        evaluated = jax.tree.map(lambda p: 0.1 * p, evaluated)
    batch = teacher(jax.random.key(99))
    start = squared_error(student(jax.random.key(0)), batch)
    assert squared_error(evaluated, batch) < 0.5 * start


def test_a_blow_up_later_on_is_undone():
    """From step 250 on the gradient is far steeper: the rate must come down."""
    tx = optax_adaptive.autotune(optax.sgd(1.0))
    params = jnp.ones(4)

    def step(carry, index):
        params, state = carry
        curvature = jnp.where(index < 250, 1.0, 300.0)
        loss, grads = jax.value_and_grad(
            lambda p: 0.5 * curvature * jnp.sum(jnp.square(p)) + 1.0
        )(params)
        noise = 0.01 * jax.random.normal(jax.random.key(index), (4,))
        updates, state = tx.update(grads + noise, state, params, value=loss)
        return (optax.apply_updates(params, updates), state), loss

    (params, state), losses = jax.lax.scan(
        step, (params, tx.init(params)), jnp.arange(700)
    )
    assert int(optax_adaptive.summary(state)["rollbacks"]) >= 1
    assert float(losses[-1]) < 1.5


def test_an_adam_that_begins_anew_does_not_leave_the_copy_at_once():
    """With no second moment its first step is the whole rate, however small a loss."""
    tx = optax_adaptive.autotune(optax.adam(1.0))

    def step(carry, index):
        params, state = carry
        loss, grads = jax.value_and_grad(lambda p: jnp.sum(jnp.square(p)))(params)
        is_bad = (index >= 600) & (index < 610)
        value = jnp.where(is_bad, jnp.inf, loss)
        updates, state = tx.update(grads, state, params, value=value)
        scale = optax_adaptive.lr_scale(state)
        return (optax.apply_updates(params, updates), state), (loss, scale)

    start = jnp.ones(50), tx.init(jnp.ones(50))
    (_, state), (losses, scales) = jax.lax.scan(step, start, jnp.arange(650))
    assert int(optax_adaptive.summary(state)["rollbacks"]) == 1
    # The return takes two updates.
    np.testing.assert_allclose(scales[611], scales[600], rtol=1e-5)
    whole_step = 50 * jnp.square(scales[611])  # loss that it would lead to
    assert float(losses[611:].max()) < 0.5 * float(whole_step)


@pytest.mark.parametrize("interpolate", [False, True])
def test_it_goes_back_to_the_average_and_to_a_first_inner_state(interpolate):
    tx = optax_adaptive.autotune(optax.sgd(1.0, 0.5), interpolate=interpolate)

    def step(carry, index):
        params, state = carry
        noise = 0.1 * jax.random.normal(jax.random.key(index), (4,))
        loss = 0.5 * jnp.sum(jnp.square(params)) + noise @ params
        loss = jnp.where(index >= 990, jnp.nan, loss)
        updates, state = tx.update(params + noise, state, params, value=loss)
        carry = optax.apply_updates(params, updates), state
        snapshot = state.inner_state.snapshot
        return carry, (params, state.averaging.averaged_params, snapshot)

    params = jnp.ones(4)
    (params, state), (seen, averages, snapshots) = jax.lax.scan(
        step, (params, tx.init(params)), jnp.arange(1000)
    )
    (first, *later) = np.flatnonzero(snapshots.is_taken)
    copies = snapshots.snapshot_params
    np.testing.assert_array_equal(copies[first], seen[first])  # the first parameters
    assert later
    for at in later:
        np.testing.assert_array_equal(copies[at], averages[at])
        assert not np.allclose(copies[at], seen[at], rtol=1e-3)
    assert snapshots.rollbacks[-1] == 1 and snapshots.is_restored[-1]
    np.testing.assert_allclose(params, copies[-1], rtol=1e-5)
    # The second update of the return, a look at the loss, and then momentum is that of
    # a first step.
    grads = jnp.full(4, 2.0)
    for value in (jnp.nan, 0.0, 0.0):
        updates, state = tx.update(grads, state, params, value=value)
        params = optax.apply_updates(params, updates)
    np.testing.assert_allclose(optax.tree.get(state, "trace"), grads)


def full_batch(params, batch, key):
    del batch, key
    return squared_error(params, teacher(jax.random.key(9)))


def same_at_first(params, batch, key):
    """Of outputs that begin at 0 each batch has a loss of 1, and its own later."""
    del key
    inputs, targets = batch
    params = params | {"out": params["out"] - student(jax.random.key(0))["out"]}
    return squared_error(params, (inputs, jnp.sign(targets)))


@pytest.mark.parametrize(("loss_fn", "rises"), [(full_batch, 1), (same_at_first, 0)])
def test_a_rate_rises_early_where_batches_do_not_differ(loss_fn, rises):
    tx = optax_adaptive.autotune(optax.sgd(1.0))
    _, _, state, _ = train(tx, loss_fn, steps=380)
    numbers = optax_adaptive.summary(state)
    assert int(numbers["phase"]) == 3
    assert bool(numbers["lr_scale"] > 1.5 * numbers["found_scale"]) == rises


def test_what_is_solved_is_not_undone_by_a_rate_that_goes_on_rising():
    """Inputs of many sizes, targets without noise: Adam's loss falls without end."""
    sizes = jnp.logspace(0.0, -1.3, 20)[None, :]

    def batch_of(key):
        inputs = sizes * jax.random.normal(key, (16, 20))
        return inputs, inputs.sum(1)

    def loss_fn(params, batch):
        inputs, targets = batch
        return jnp.mean(jnp.square(inputs @ params - targets))

    tx = optax_adaptive.autotune(optax.adam(1e-3))
    step = make_step(tx, loss_fn)
    params = jnp.zeros(20)
    (params, state), _ = jax.lax.scan(
        lambda carry, key: (step(*carry, batch_of(key)), None),
        (params, tx.init(params)),
        jax.random.split(jax.random.key(0), 1500),
    )
    evaluated = optax_adaptive.eval_params(state, params)
    assert loss_fn(evaluated, batch_of(jax.random.key(1))) < 1e-9


@jax.numpy_dtype_promotion("standard")  # Adam mixes dtypes
def test_an_average_that_lags_is_not_evaluated():
    """Where the loss falls by ten decades, what was averaged early is far off."""
    weights = jax.random.normal(jax.random.key(0), (256, 8))
    tx = optax_adaptive.autotune(optax.adam(1e-3), total_steps=2000)

    def loss_fn(params):
        return jnp.mean(jnp.square(weights @ (params - 1e3)))

    def step(carry, _):
        params, state = carry
        loss, grads = jax.value_and_grad(loss_fn)(params)
        updates, state = tx.update(grads, state, params, value=loss)
        return (optax.apply_updates(params, updates), state), None

    params = jnp.zeros(8)
    (params, state), _ = jax.lax.scan(step, (params, tx.init(params)), length=760)
    evaluated = optax_adaptive.eval_params(state, params)
    assert loss_fn(evaluated) < 1e-3 < loss_fn(state.averaging.averaged_params)
