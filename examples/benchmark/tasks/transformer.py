"""Text: a small causal transformer on characters."""

import jax
import jax.numpy as jnp
import numpy as np

from benchmark.tasks.language import language, read_text
from benchmark.tasks.task import Task
from policy.networks import dense, linear


def transformer(steps: int = 800, width: int = 32, length: int = 32) -> Task:
    """Two pre-norm blocks of two heads."""
    text, letters = read_text()
    heads = 2

    def init(key):
        keys = iter(jax.random.split(key, 11))
        block = {"qkv": 3 * width, "project": width, "widen": 4 * width}
        return {
            "embedding": 0.3 * jax.random.normal(next(keys), (letters, width)),
            "position": 0.1 * jax.random.normal(next(keys), (length, width)),
            "out": dense(next(keys), width, letters),
            "blocks": [
                {name: dense(next(keys), width, size) for name, size in block.items()}
                | {"narrow": dense(next(keys), 4 * width, width)}
                | {"norms": jnp.ones((2, width))}
                for _ in range(2)
            ],
        }

    def norm(x):
        x = x - x.mean(-1, keepdims=True)
        return x * jax.lax.rsqrt(jnp.square(x).mean(-1, keepdims=True) + 1e-5)

    mask = jnp.tril(jnp.ones((length, length), bool))

    def logits(params, x):
        x = params["embedding"][x] + params["position"]
        batch = x.shape[0]
        for block in params["blocks"]:
            qkv = linear(block["qkv"], norm(x) * block["norms"][0])
            q, k, v = jnp.moveaxis(
                qkv.reshape(batch, length, 3, heads, width // heads), 2, 0
            )
            scores = jnp.einsum("bthd,bshd->bhts", q, k) / np.sqrt(width // heads)
            weights = jax.nn.softmax(jnp.where(mask, scores, -1e9))
            mixed = jnp.einsum("bhts,bshd->bthd", weights, v)
            x = x + linear(block["project"], mixed.reshape(batch, length, width))
            wide = jax.nn.gelu(linear(block["widen"], norm(x) * block["norms"][1]))
            x = x + linear(block["narrow"], wide)
        return linear(params["out"], norm(x))

    return language(text, init, logits, steps=steps, batch=16, length=length)
