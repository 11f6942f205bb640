"""A vision transformer on CIFAR-10, halved to 16x16."""

from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmark.studies.beyond_home.tasks import images
from benchmark.studies.beyond_home.tasks.training import Training, clipped_adamw
from benchmark.tasks.task import Array
from policy.networks import dense, linear, normalise

SIDE, PATCH = 16, 4  # pixels
TOKENS = (SIDE // PATCH) ** 2
WIDTH, DEPTH, HEADS = 64, 2, 4


def init(key: Array) -> dict[str, Any]:
    """First parameters."""
    keys = iter(jax.random.split(key, 3 + 4 * DEPTH))
    shapes = {
        "qkv": (WIDTH, 3 * WIDTH),
        "project": (WIDTH, WIDTH),
        "widen": (WIDTH, 2 * WIDTH),
        "narrow": (2 * WIDTH, WIDTH),
    }
    return {
        "patch": dense(next(keys), 3 * PATCH**2, WIDTH),
        "position": 0.1 * jax.random.normal(next(keys), (TOKENS, WIDTH)),
        "out": dense(next(keys), WIDTH, 10),
        "blocks": [
            {name: dense(next(keys), *shape) for name, shape in shapes.items()}
            for _ in range(DEPTH)
        ],
    }


def logits(params: dict[str, Any], x: Array) -> Array:
    """Of images (B, 16, 16, 3), by the mean over tokens."""
    batch, count = x.shape[0], SIDE // PATCH
    x = x.reshape(batch, count, PATCH, count, PATCH, 3).swapaxes(2, 3)
    x = linear(params["patch"], x.reshape(batch, TOKENS, -1)) + params["position"]
    for block in params["blocks"]:
        qkv = linear(block["qkv"], normalise(x))
        qkv = qkv.reshape(batch, TOKENS, 3, HEADS, WIDTH // HEADS)
        q, k, v = jnp.moveaxis(qkv, 2, 0)
        scores = jnp.einsum("bthd,bshd->bhts", q, k) / np.sqrt(WIDTH // HEADS)
        mixed = jnp.einsum("bhts,bshd->bthd", jax.nn.softmax(scores), v)
        x = x + linear(block["project"], mixed.reshape(batch, TOKENS, WIDTH))
        wide = jax.nn.gelu(linear(block["widen"], normalise(x)))
        x = x + linear(block["narrow"], wide)
    return linear(params["out"], normalise(x).mean(1))


def vision_transformer(data_dir: Path, steps: int = 4000) -> Training:
    """12,000 mirrored images, by AdamW with a decay of 0.1."""
    task = images.classification(
        *(images.cifar(data_dir), init, logits, images.mirror), steps=steps, batch=32
    )
    return Training(task, partial(clipped_adamw, 0.999), 1e-3)
