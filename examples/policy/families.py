"""The task families that the policy is trained on, and those kept for selection.

A family fixes network, batch size, optimizer and usual length. A random key
draws the rest: the data, their noise, the first parameters. ``learning_rate`` is near
the best one of a cosine; ``rollout.py`` moves the base rate away from it.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from methods.optimizers import Make
from policy import data
from policy.networks import Network, attention, conv, mlp, recurrent, residual

Array = jax.Array


class Family(NamedTuple):
    """A family of tasks of one shape."""

    network: Network
    make_data: Callable[[Array], data.Split]
    batch_size: int
    optimizer: str
    learning_rate: float
    steps: int
    input_noise: float = 0.0


class Problem(NamedTuple):
    """A task of a family."""

    init: Callable[[Array], Any]  # key -> params
    loss: Callable[[Any, Array], Array]  # params, key -> float32[]
    evaluate: Callable[[Any], Array]  # params -> float32[], on validation data


OPTIMIZERS: dict[str, Make] = {
    "adam": optax.adam,
    "adamw": partial(optax.adamw, weight_decay=0.1),
    "sgd": optax.sgd,
    "momentum": partial(optax.sgd, momentum=0.9),
    "lion": optax.lion,
    "rmsprop": optax.rmsprop,
    "nadam": optax.nadam,
}


def mean_loss(outputs: Array, targets: Array) -> Array:
    """Cross entropy for labels, squared error for numbers."""
    if jnp.issubdtype(targets.dtype, jnp.integer):
        losses = optax.softmax_cross_entropy_with_integer_labels(outputs, targets)
        return losses.mean()
    return jnp.square(outputs - targets).mean()


def sample(family: Family, key: Array) -> Problem:
    """A task of a family."""
    split = family.make_data(key)

    def loss(params, key):
        index_key, noise_key, drop_key = jax.random.split(key, 3)
        size = split.inputs.shape[0]
        index = jax.random.randint(index_key, (family.batch_size,), 0, size)
        x = split.inputs[index]
        if family.input_noise:
            x = x + family.input_noise * jax.random.normal(noise_key, x.shape)
        return mean_loss(
            family.network.apply(params, x, drop_key), split.targets[index]
        )

    def evaluate(params):
        outputs = family.network.apply(params, split.val_inputs, None)
        return mean_loss(outputs, split.val_targets)

    return Problem(family.network.init, loss, evaluate)


_SYMBOLS = len(data.ALPHABET)
_images, _classes, _values = data.patterns, data.teacher_classes, data.teacher_values
_small = mlp((64, 32, 10))
_deep = mlp((64, 24, 24, 24, 10), jnp.tanh)
_dropped = mlp((64, 32, 10), dropout=0.3)
_normal = mlp((16, 24, 24, 5), jax.nn.gelu, is_normalised=True)
_plain = mlp((16, 32, 5), jax.nn.silu)
_values_mlp = mlp((8, 32, 2), jnp.tanh)
_conv = conv((4, 8), 10)
_tanh = recurrent("tanh", 16, _SYMBOLS, _SYMBOLS)
_gru = recurrent("gru", 12, 0, 6)
_attention = attention(16, 16, _SYMBOLS)
_half_dropped = mlp((64, 48, 10), dropout=0.5)
_half_normal = mlp((16, 32, 5), jax.nn.gelu, dropout=0.5, is_normalised=True)

TRAINING = {
    "mlp-adam": Family(_small, _images, 32, "adam", 5e-3, 400),
    "mlp-momentum": Family(_small, _images, 16, "momentum", 3e-2, 600),
    "mlp-sgd": Family(_small, _images, 32, "sgd", 5e-1, 400),
    "dropout-adamw": Family(_dropped, _images, 8, "adamw", 1e-2, 900, 0.3),
    "deep-lion": Family(_deep, _images, 32, "lion", 2e-3, 400),
    "norm-adam": Family(_normal, _classes, 32, "adam", 1e-2, 500),
    "plain-momentum": Family(_plain, _classes, 8, "momentum", 1e-2, 1000),
    "values-adam": Family(_values_mlp, _values, 16, "adam", 2e-2, 800),
    "values-sgd": Family(_values_mlp, _values, 32, "sgd", 1e-1, 600),
    "conv-adam": Family(_conv, _images, 16, "adam", 1e-2, 300),
    "conv-momentum": Family(_conv, _images, 16, "momentum", 3e-2, 300),
    "tanh-adam": Family(_tanh, data.letters, 8, "adam", 2e-2, 400),
    "gru-adamw": Family(_gru, data.series, 16, "adamw", 5e-2, 400),
    "attention-adam": Family(_attention, data.letters, 8, "adam", 2e-2, 300),
    "attention-lion": Family(_attention, data.letters, 8, "lion", 5e-3, 300),
    # A loss with next to no noise shows a descent at rates far below the good ones,
    # and a very noisy one only when it is nearly too late.
    "quiet-tanh-adam": Family(_tanh, data.letters, 64, "adam", 2e-2, 300),
    "quiet-attention-adam": Family(_attention, data.letters, 48, "adam", 2e-2, 300),
    "quiet-values-adam": Family(_values_mlp, _values, 256, "adam", 2e-2, 500),
    "quiet-values-momentum": Family(_values_mlp, _values, 256, "momentum", 3e-2, 500),
    "loud-adam": Family(_half_dropped, _images, 4, "adam", 3e-3, 1200, 0.5),
    "loud-momentum": Family(_half_normal, _classes, 4, "momentum", 1e-2, 1000),
}

# Another network, and other data or an optimizer that training never sees.
HELD_OUT = {
    "residual-nadam": Family(
        residual(8, 24, 2, 2), data.teacher_values, 32, "nadam", 2e-2, 700
    ),
    "lstm-adam": Family(
        recurrent("lstm", 24, 12, 12), data.markov, 8, "adam", 2e-2, 500
    ),
    "attention-adamw": Family(
        attention(24, 20, 12, 2), data.markov, 8, "adamw", 1e-2, 600
    ),
    "wide-rmsprop": Family(mlp((64, 96, 10)), data.patterns, 64, "rmsprop", 1e-3, 1200),
    "conv-sgd": Family(conv((6, 12, 12), 10), data.patterns, 32, "sgd", 3e-1, 500),
    "quiet-gru-adam": Family(
        recurrent("gru", 20, 12, 12), data.markov, 64, "adam", 2e-2, 400
    ),
    "loud-silu-adam": Family(
        mlp((16, 40, 24, 5), jax.nn.silu, dropout=0.5),
        *(data.teacher_classes, 4, "adam", 3e-3, 1500),
    ),
}
