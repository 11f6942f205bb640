"""A noisy regression whose data, losses and gradients are not always as they should."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from optax_adaptive import eval_params, lr_scale

STEPS, SIZE, BATCH = 1000, 4, 16
TARGET = jnp.array([1.0, -2.0, 0.5, 3.0])
NOISE = 0.1  # standard deviation of a target, given its inputs
# An excess loss as large as the noise: training starts at 14.25, and ends below a
# hundredth of this where nothing is wrong.
FINISHED = NOISE**2


class Stream(NamedTuple):
    """What is out of the ordinary at each step; all float32 of shape (STEPS,)."""

    factor: np.ndarray  # on loss and gradient
    loss_factor: np.ndarray  # on the loss alone
    loss_offset: np.ndarray  # added to that
    gradient_factor: np.ndarray  # on the gradient alone
    noise: np.ndarray  # factor on the noise of targets
    examples: np.ndarray  # in the batch
    inputs: np.ndarray  # that targets depend on, of SIZE


class Run(NamedTuple):
    """A training that has ended, and every step of it."""

    loss: jax.Array  # shape=(), dtype=float32: excess of what is evaluated
    params: jax.Array
    state: Any
    values: jax.Array  # shape=(STEPS,), dtype=float32: as handed in
    scales: jax.Array  # shape=(STEPS,), dtype=float32


def stream(**changed: Any) -> Stream:
    """Nothing, but for ``changed``: numbers or arrays of shape (STEPS,), by name."""
    usual = dict(factor=1.0, loss_factor=1.0, loss_offset=0.0, gradient_factor=1.0)
    usual |= dict(noise=1.0, examples=BATCH, inputs=SIZE)
    return Stream(
        **{
            name: np.broadcast_to(np.float32(value), (STEPS,)).copy()
            for name, value in (usual | changed).items()
        }
    )


def excess(params: jax.Array) -> jax.Array:
    """The expected loss above that of the best parameters."""
    return jnp.sum(jnp.square(params - TARGET))


def batch_loss(params: jax.Array, key: jax.Array, at: Stream) -> jax.Array:
    """The loss of the batch of a step, before it is changed."""
    first, second = jax.random.split(key)
    inputs = jax.random.normal(first, (BATCH, SIZE))
    target = jnp.where(jnp.arange(SIZE) < at.inputs, TARGET, 0.0)
    noise = NOISE * at.noise * jax.random.normal(second, (BATCH,))
    is_there = jnp.arange(BATCH) < at.examples
    errors = inputs @ (params - target) - noise
    return jnp.mean(jnp.square(errors), where=is_there)


def start(tx: Any, seed: int = 0) -> tuple[tuple[jax.Array, Any], jax.Array]:
    """First parameters and state, and a key for each step."""
    params = jnp.zeros(SIZE)
    return (params, tx.init(params)), jax.random.split(jax.random.key(seed), STEPS)


@functools.cache
def trained(make: Callable[[], optax.GradientTransformation]) -> Callable[..., Run]:
    """A jitted function of (stream, seed=0) -> Run, compiled once for each ``make``."""
    tx = optax.with_extra_args_support(make())

    def step(carry, x):
        (params, state), (key, at) = carry, x
        loss, grads = jax.value_and_grad(batch_loss)(params, key, at)
        value = at.factor * at.loss_factor * loss + at.loss_offset
        grads = at.factor * at.gradient_factor * grads
        updates, state = tx.update(grads, state, params, value=value)
        seen = value, read(lr_scale, state, 1.0)
        return (optax.apply_updates(params, updates), state), seen

    @jax.jit
    def run(at, seed):
        carry, keys = start(tx, seed)
        (params, state), seen = jax.lax.scan(step, carry, (keys, at))
        evaluated = read(lambda state: eval_params(state, params), state, params)
        return Run(excess(evaluated), params, state, *seen)

    return lambda at, seed=0: run(at, seed)


def read(reader: Callable[[Any], Any], state: Any, default: Any) -> Any:
    """What there is to be read of a state of this library; of others the default."""
    try:
        return reader(state)
    except ValueError:
        return jnp.asarray(default)
