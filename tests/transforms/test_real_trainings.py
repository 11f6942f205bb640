"""What real trainings add: low precision, clipping, remat, debug_nans, many leaves."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from optax_adaptive import autotune, eval_params, summary
from tests.helpers.regression import squared_error, student, teacher

pytestmark = pytest.mark.usefixtures("standard_promotion")

STEPS = 300
BATCH = teacher(jax.random.key(9))


@functools.cache
def compiled(make_loss, interpolate=False):
    """A jitted chunk of steps, donated, with a spike of the loss where asked."""
    # Weight decay masked, as usual, and gradients clipped before.
    optimizer = optax.chain(
        optax.clip_by_global_norm(1.0),
        optax.adamw(
            1e-3,
            b1=0.0 if interpolate else 0.9,
            weight_decay=1e-3,
            mask=lambda params: jax.tree.map(lambda leaf: leaf.ndim > 1, params),
        ),
    )
    tx = autotune(optimizer, interpolate=interpolate)
    loss_fn = make_loss()

    @functools.partial(jax.jit, donate_argnums=0)
    def run(carry, spikes):
        def step(carry, spike):
            params, state = carry
            value, grads = jax.value_and_grad(loss_fn)(params)
            updates, state = tx.update(grads, state, params, value=value + spike)
            return (optax.apply_updates(params, updates), state), value

        return jax.lax.scan(step, carry, spikes)

    return tx, run


def whole(dtype):
    """All of it in one dtype, without a scale on the loss."""

    def loss_fn(params):
        inputs, targets = jax.tree.map(lambda leaf: leaf.astype(dtype), BATCH)
        return squared_error(params, (inputs, targets))

    return loss_fn


def mixed():
    """A float32 master copy, which is cast to bfloat16; activations recomputed."""

    @jax.checkpoint
    def loss_fn(params):
        low = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), (params, BATCH))
        return squared_error(*low)

    return loss_fn


def trained(make_loss, dtype, interpolate=False, spikes=(), chunks=1):
    """Last state, losses and first params of a run that ends low, in its dtype."""
    tx, run = compiled(make_loss, interpolate)
    start = jax.tree.map(lambda leaf: leaf.astype(dtype), student(jax.random.key(0)))
    first = squared_error(start, BATCH)
    carry, losses = (start, tx.init(start)), []
    added = np.where(np.isin(np.arange(STEPS), spikes), np.float32(100.0), 0.0)
    for chunk in np.split(added.astype(np.float32), chunks):
        carry, values = run(carry, chunk)
        losses.append(values)
    params, state = carry
    for found in (params, eval_params(state, params)):
        assert all(leaf.dtype == dtype for leaf in jax.tree.leaves(found))
        assert squared_error(found, BATCH) < 0.1 * first
    assert summary(state)["phase"] == 3
    return state, losses, start


@pytest.mark.parametrize(
    ("dtype", "interpolate"),
    [
        (jnp.float16, False),
        pytest.param(jnp.float16, True, marks=pytest.mark.slow),
        pytest.param(jnp.bfloat16, False, marks=pytest.mark.slow),
        pytest.param(jnp.bfloat16, True, marks=pytest.mark.slow),
    ],
)
def test_params_losses_and_gradients_of_low_precision(dtype, interpolate):
    make_loss = functools.partial(whole, dtype)
    _, (losses,), start = trained(make_loss, dtype, interpolate)
    assert losses.dtype == dtype
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(start))


def test_low_precision_from_a_master_copy_makes_no_nan_even_in_a_rollback():
    """By values that are finite, however high; each step is checked for NaN."""
    with jax.debug_nans(True):
        state, losses, _ = trained(
            mixed, jnp.float32, spikes=range(200, 230), chunks=STEPS
        )
    assert losses[0].dtype == jnp.bfloat16
    assert summary(state)["rollbacks"] == 1


@pytest.mark.slow
def test_four_hundred_leaves():
    keys = jax.random.split(jax.random.key(0), 200)
    params = {str(index): student(key) for index, key in enumerate(keys)}

    def make_loss():
        # By the mean of their outputs: each leaf matters as little as in a large model.
        def loss_fn(params):
            stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *params.values())
            return jnp.mean(jax.vmap(squared_error, (0, None))(stacked, BATCH))

        return loss_fn

    tx, run = compiled(make_loss)
    (params, state), losses = run((params, tx.init(params)), np.zeros(500, np.float32))
    assert summary(state)["phase"] == 3
    assert losses[-1] < 0.1 * losses[0]
    assert len(jax.tree.leaves(eval_params(state, params))) == 400
