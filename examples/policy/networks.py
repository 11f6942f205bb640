"""Tiny networks as pairs of pure functions: init(key), apply(params, x, key).

``key`` is for dropout, None in evaluation.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

Array = jax.Array


class Network(NamedTuple):
    """A model."""

    init: Callable[[Array], Any]
    apply: Callable[[Any, Array, Array | None], Array]


def dense(key: Array, inputs: int, outputs: int) -> dict[str, Array]:
    """A linear layer of variance 1 / inputs."""
    weights = jax.random.normal(key, (inputs, outputs)) / np.sqrt(inputs)
    return {"weights": weights, "bias": jnp.zeros(outputs)}


def linear(layer: dict[str, Array], x: Array) -> Array:
    """The linear layer on the last axis of ``x``."""
    return x @ layer["weights"] + layer["bias"]


def normalise(x: Array) -> Array:
    """Layer normalisation without parameters."""
    x = x - x.mean(-1, keepdims=True)
    return x * jax.lax.rsqrt(jnp.square(x).mean(-1, keepdims=True) + 1e-5)


def mlp(
    sizes: tuple[int, ...],
    activation: Callable[[Array], Array] = jax.nn.relu,
    dropout: float = 0.0,
    is_normalised: bool = False,
) -> Network:
    """A plain multilayer perceptron."""

    def init(key):
        keys = jax.random.split(key, len(sizes) - 1)
        return [dense(k, *sizes[i : i + 2]) for i, k in enumerate(keys)]

    def apply(params, x, key):
        for i, layer in enumerate(params[:-1]):
            x = linear(layer, x)
            x = activation(normalise(x) if is_normalised else x)
            if dropout and key is not None:
                rate = 1 - dropout
                kept = jax.random.bernoulli(jax.random.fold_in(key, i), rate, x.shape)
                x = jnp.where(kept, x / rate, 0.0)
        return linear(params[-1], x)

    return Network(init, apply)


def residual(inputs: int, width: int, depth: int, outputs: int) -> Network:
    """Pre-norm residual blocks of two layers."""

    def init(key):
        keys = jax.random.split(key, 2 + 2 * depth)
        return {
            "in": dense(keys[0], inputs, width),
            "out": dense(keys[1], width, outputs),
            "blocks": [
                (dense(a, width, width), dense(b, width, width))
                for a, b in zip(keys[2::2], keys[3::2], strict=True)
            ],
        }

    def apply(params, x, key):
        del key
        x = linear(params["in"], x)
        for first, second in params["blocks"]:
            x = x + linear(second, jax.nn.relu(linear(first, normalise(x))))
        return linear(params["out"], normalise(x))

    return Network(init, apply)


def patches(x: Array) -> Array:
    """3x3 neighbourhoods: (B, H, W, C) -> (B, H, W, 9 C).

    A convolution as a matrix product: XLA on a CPU compiles convolutions inside a scan
    to code that is 30 times slower.
    """
    height, width = x.shape[1:3]
    x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    shifts = [(i, j) for i in range(3) for j in range(3)]
    return jnp.concatenate([x[:, i : i + height, j : j + width] for i, j in shifts], -1)


def conv(channels: tuple[int, ...], outputs: int) -> Network:
    """3x3 convolutions with halving on 8x8 images, as products with patches."""
    sizes = (1, *channels)

    def init(key):
        keys = jax.random.split(key, len(channels) + 1)
        kernels = [
            dense(k, 9 * c, d)
            for k, c, d in zip(keys[1:], sizes[:-1], sizes[1:], strict=True)
        ]
        side = 8 // 2 ** len(channels)
        out = dense(keys[0], side * side * sizes[-1], outputs)
        return {"kernels": kernels, "out": out}

    def apply(params, x, key):
        del key
        x = x.reshape(-1, 8, 8, 1)
        for kernel in params["kernels"]:
            x = jax.nn.relu(linear(kernel, patches(x)))
            b, h, w, c = x.shape
            x = x.reshape(b, h // 2, 2, w // 2, 2, c).max((2, 4))
        return linear(params["out"], x.reshape(x.shape[0], -1))

    return Network(init, apply)


def recurrent(cell: str, width: int, letters: int, outputs: int) -> Network:
    """A recurrent layer: "tanh", "gru" or "lstm".

    Over symbols if there are ``letters``, and then each step gives an output; over
    numbers otherwise, and then the last step does.
    """
    gates = {"tanh": 1, "gru": 3, "lstm": 4}[cell]
    inputs = width if letters else 1

    def init(key):
        keys = jax.random.split(key, 4)
        params: dict[str, Any] = {
            "enter": dense(keys[0], inputs, gates * width),
            "again": dense(keys[1], width, gates * width),
            "out": dense(keys[2], width, outputs),
        }
        if letters:
            params["embedding"] = jax.random.normal(keys[3], (letters, inputs)) / 2
        return params

    def advance(carry, entering, again):
        hidden, memory = carry
        back = linear(again, hidden)
        if cell == "tanh":
            hidden = jnp.tanh(entering + back)
        elif cell == "gru":
            r1, z1, n1 = jnp.split(entering, 3, -1)
            r2, z2, n2 = jnp.split(back, 3, -1)
            keep = jax.nn.sigmoid(z1 + z2)
            new = jnp.tanh(n1 + jax.nn.sigmoid(r1 + r2) * n2)
            hidden = keep * hidden + (1 - keep) * new
        else:
            enter, leave, keep, new = jnp.split(entering + back, 4, -1)
            memory = jax.nn.sigmoid(keep + 1) * memory
            memory = memory + jax.nn.sigmoid(enter) * jnp.tanh(new)
            hidden = jax.nn.sigmoid(leave) * jnp.tanh(memory)
        return (hidden, memory), hidden

    def apply(params, x, key):
        del key
        x = params["embedding"][x] if letters else x[..., None]
        entering = linear(params["enter"], x).swapaxes(0, 1)
        zeros = jnp.zeros((x.shape[0], width))
        _, hidden = jax.lax.scan(
            lambda carry, e: advance(carry, e, params["again"]),
            (zeros, zeros),
            entering,
        )
        hidden = hidden.swapaxes(0, 1) if letters else hidden[-1]
        return linear(params["out"], hidden)

    return Network(init, apply)


def attention(width: int, length: int, letters: int, depth: int = 1) -> Network:
    """Blocks of causal attention with one head, each followed by two layers."""

    def init(key):
        keys = iter(jax.random.split(key, 3 + 4 * depth))
        return {
            "embedding": jax.random.normal(next(keys), (letters, width)) / 2,
            "position": jax.random.normal(next(keys), (length, width)) / 4,
            "out": dense(next(keys), width, letters),
            "blocks": [
                [
                    dense(next(keys), *shape)
                    for shape in (
                        (width, 3 * width),
                        (width, width),
                        (width, 2 * width),
                        (2 * width, width),
                    )
                ]
                for _ in range(depth)
            ],
        }

    mask = np.tril(np.ones((length, length), bool))

    def apply(params, x, key):
        del key
        x = params["embedding"][x] + params["position"]
        for look, project, widen, narrow in params["blocks"]:
            q, k, v = jnp.split(linear(look, normalise(x)), 3, -1)
            scores = jnp.einsum("btd,bsd->bts", q, k) / np.sqrt(width)
            weights = jax.nn.softmax(jnp.where(mask, scores, -1e9))
            x = x + linear(project, jnp.einsum("bts,bsd->btd", weights, v))
            x = x + linear(narrow, jax.nn.gelu(linear(widen, normalise(x))))
        return linear(params["out"], normalise(x))

    return Network(init, apply)
