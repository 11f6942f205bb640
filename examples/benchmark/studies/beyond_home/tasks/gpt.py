"""Language models: three small GPTs on characters of installed packages' source.

As nanoGPT makes them (Karpathy, 2022), but with ReLU, and without dropout and biases:
pre-norm blocks, weights of a standard deviation of 0.02, smaller before each sum,
embeddings that serve as output too; AdamW with b2 of 0.99, decay on matrices, gradients
clipped by norm.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from benchmark.studies.beyond_home.tasks import text
from benchmark.studies.beyond_home.tasks.training import Training, language_adamw
from benchmark.tasks.language import on_parts
from benchmark.tasks.task import Array
from policy.networks import normalise

HEADS = 4
WINDOWS = 128  # of each part, in an evaluation


class Size(NamedTuple):
    """Of a network and of its batches."""

    width: int
    depth: int
    length: int  # characters of a window
    batch: int  # windows


def init(size: Size, key: Array) -> dict[str, Any]:
    """First parameters."""
    keys = iter(jax.random.split(key, 2 + 4 * size.depth))
    width = size.width
    before_sum = 1 / np.sqrt(2 * size.depth)

    def normal(rows, columns, factor=1.0):
        return 0.02 * factor * jax.random.normal(next(keys), (rows, columns))

    return {
        "embedding": normal(text.CHARACTERS, width),
        "position": normal(size.length, width),
        "blocks": [
            {
                "qkv": normal(width, 3 * width),
                "project": normal(width, width, before_sum),
                "widen": normal(width, 4 * width),
                "narrow": normal(4 * width, width, before_sum),
                "gains": [jnp.ones(width), jnp.ones(width)],
            }
            for _ in range(size.depth)
        ],
        "gain": jnp.ones(width),
    }


def attend(block: dict[str, Any], x: Array) -> Array:
    """Causal attention, (B, T, D) to (B, T, D)."""
    batch, length, width = x.shape
    qkv = (x @ block["qkv"]).reshape(batch, length, 3, HEADS, width // HEADS)
    q, k, v = jnp.moveaxis(qkv, 2, 0)
    scores = jnp.einsum("bthd,bshd->bhts", q, k) / np.sqrt(width // HEADS)
    is_past = jnp.tril(jnp.ones((length, length), bool))
    weights = jax.nn.softmax(jnp.where(is_past, scores, -1e9))
    mixed = jnp.einsum("bhts,bshd->bthd", weights, v)
    return mixed.reshape(batch, length, width) @ block["project"]


def states(params: dict[str, Any], x: Array) -> Array:
    """After the last block, (B, T) int32 to (B, T, D)."""
    x = params["embedding"][x] + params["position"][: x.shape[1]]
    for block in params["blocks"]:
        x = x + attend(block, normalise(x) * block["gains"][0])
        # GELU would take a third of the step's time on a CPU.
        wide = jax.nn.relu(normalise(x) * block["gains"][1] @ block["widen"])
        x = x + wide @ block["narrow"]
    return normalise(x) * params["gain"]


def logits(params: dict[str, Any], x: Array) -> Array:
    """Of the next characters: (B, T) int32 to (B, T, characters)."""
    return states(params, x) @ params["embedding"].T


def gpt(package: str, size: Size, steps: int) -> Training:
    """A GPT on the source of a package, from its first parameters on."""
    task = on_parts(
        text.read(package),
        lambda key: init(size, key),
        logits,
        steps=steps,
        batch=size.batch,
        length=size.length,
        held_out=WINDOWS,
    )
    return Training(task, language_adamw, 2e-3)
