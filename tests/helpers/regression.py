"""A regression to train on, and autotune as it is composed."""

import jax
import jax.numpy as jnp
import optax

import optax_adaptive
from optax_adaptive import scale_by_controller

STEPS = 400


def teacher(key):
    """A regression batch of 32: inputs (32, 8), targets (32,)."""
    inputs = jax.random.normal(key, (32, 8))
    targets = jnp.tanh(inputs @ jnp.linspace(-1.0, 1.0, 8))
    return inputs, targets


def student(key):
    first, second = jax.random.split(key)
    return {
        "hidden": jax.random.normal(first, (8, 16)) / 8**0.5,
        "out": jax.random.normal(second, (16,)) / 4.0,
    }


def squared_error(params, batch):
    inputs, targets = batch
    outputs = jnp.tanh(inputs @ params["hidden"]) @ params["out"]
    return jnp.mean(jnp.square(outputs - targets))


def train(tx, loss_fn=squared_error, steps=STEPS, seed=0, dtype=jnp.float32):
    """Whole training as one scan; final loss at eval_params, losses, state, params."""
    key = jax.random.key(seed)
    params = jax.tree.map(lambda p: p.astype(dtype), student(key))

    def run(params):
        def step(carry, key):
            params, state = carry
            loss, grads = jax.value_and_grad(loss_fn)(params, teacher(key), key)
            updates, state = tx.update(grads, state, params, value=loss)
            return (optax.apply_updates(params, updates), state), loss

        keys = jax.random.split(jax.random.fold_in(key, 1), steps)
        return jax.lax.scan(step, (params, tx.init(params)), keys)

    (params, state), losses = jax.jit(run)(params)
    batch = teacher(jax.random.fold_in(key, 2))
    evaluated = optax_adaptive.eval_params(state, params)
    return loss_fn(evaluated, batch, key), losses, state, params


def plain(params, batch, key):
    del key
    return squared_error(params, batch)


def noisy(params, batch, key):
    inputs, targets = jax.tree.map(lambda x: x[:8], batch)
    flips = jax.random.bernoulli(key, 0.2, targets.shape)
    return squared_error(params, (inputs, jnp.where(flips, -targets, targets)))


def wraps(rule, interpolate=False, optimizer=None):
    """What autotune is, around another rule."""
    optimizer = optax.sgd(1.0) if optimizer is None else optimizer
    scaling = scale_by_controller(rule, min_scale=1e-30, max_scale=1e30)
    tx = optax_adaptive.with_rollback(
        optax.chain(optimizer, scaling), backoff=1.0, restore_inner=False
    )
    return optax_adaptive.with_averaging(
        tx,
        fraction=0.2 if interpolate else 0.1,
        interpolation=0.7 if interpolate else 0.0,
    )


def make_step(tx, loss_fn=squared_error):
    def step(params, state, batch):
        loss, grads = jax.value_and_grad(loss_fn)(params, batch)
        updates, state = tx.update(grads, state, params, value=loss)
        return optax.apply_updates(params, updates), state

    return step
