"""Layers and losses that several tasks share, on plain dictionaries of arrays."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmark.tasks.task import Array


def cross_entropy(logits: Array, labels: Array) -> Array:
    """Mean over all axes of ``labels``."""
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    return losses.mean()


def percent_correct(logits: Array, labels: Array) -> Array:
    """Accuracy in percent."""
    return 100.0 * (logits.argmax(-1) == labels).mean()


def recur(layer: dict[str, Array], x: Array, width: int) -> Array:
    """An LSTM over (B, T, inputs), to (B, T, width)."""
    inputs = x.shape[-1]
    projected = x @ layer["weights"][:inputs] + layer["bias"]
    recurrent = layer["weights"][inputs:]

    def step(carry, gates):
        hidden, cell = carry
        gates = gates + hidden @ recurrent
        enter, leave, keep, new = jnp.split(gates, 4, axis=-1)
        cell = jax.nn.sigmoid(keep + 1.0) * cell + jax.nn.sigmoid(enter) * jnp.tanh(new)
        hidden = jax.nn.sigmoid(leave) * jnp.tanh(cell)
        return (hidden, cell), hidden

    zeros = jnp.zeros((x.shape[0], width))
    _, hidden = jax.lax.scan(step, (zeros, zeros), projected.swapaxes(0, 1))
    return hidden.swapaxes(0, 1)


def normed(key: Array, inputs: int, outputs: int) -> dict[str, Array]:
    """A linear layer without bias, and the batch norm after it."""
    return {
        "kernel": jax.random.normal(key, (inputs, outputs)) / np.sqrt(inputs),
        "scale": jnp.ones(outputs),
        "bias": jnp.zeros(outputs),
    }


def normalise_batch(layer: dict[str, Array], x: Array) -> Array:
    """That layer on the last axis of (B, H, W, C), by the statistics of this batch."""
    x = x @ layer["kernel"]
    mean, var = x.mean((0, 1, 2)), x.var((0, 1, 2))
    return (x - mean) * jax.lax.rsqrt(var + 1e-5) * layer["scale"] + layer["bias"]
