"""A residual network with batch norm and 100 classes, in a short run.

ResNet-18 (He et al., CVPR 2016), an eighth as wide, on CIFAR-100 halved to 16x16. First
losses are above that of a guess, ln 100, and a trial run of some twenty steps ends near
it at any rate.
"""

from pathlib import Path
from typing import Any

import jax
import optax

from benchmark.studies.beyond_home.tasks import images
from benchmark.studies.beyond_home.tasks.training import Training
from benchmark.tasks.layers import normalise_batch, normed
from benchmark.tasks.task import Array
from policy.networks import dense, linear, patches

WIDTHS = (8, 16, 32, 64)  # channels of each stage; all but the first halve the sides
BLOCKS = 2  # of each stage
CLASSES = 100


def init(key: Array) -> dict[str, Any]:
    """First parameters."""
    keys = iter(jax.random.split(key, 2 + 3 * BLOCKS * len(WIDTHS)))
    blocks, inputs = [], WIDTHS[0]
    for width in WIDTHS:
        for _ in range(BLOCKS):
            block = {
                "first": normed(next(keys), 9 * inputs, width),
                "second": normed(next(keys), 9 * width, width),
            }
            if width != inputs:
                block["shortcut"] = normed(next(keys), inputs, width)
            blocks.append(block)
            inputs = width
    return {
        "stem": normed(next(keys), 27, WIDTHS[0]),
        "blocks": blocks,
        "out": dense(next(keys), inputs, CLASSES),
    }


def logits(params: dict[str, Any], x: Array) -> Array:
    """Of images (B, 16, 16, 3)."""
    x = jax.nn.relu(normalise_batch(params["stem"], patches(x)))
    for block in params["blocks"]:
        shortcut, y = x, patches(x)
        if "shortcut" in block:
            y = y[:, ::2, ::2]
            shortcut = normalise_batch(block["shortcut"], x[:, ::2, ::2])
        y = jax.nn.relu(normalise_batch(block["first"], y))
        x = jax.nn.relu(normalise_batch(block["second"], patches(y)) + shortcut)
    return linear(params["out"], x.mean((1, 2)))


def deep_residual(data_dir: Path, steps: int = 750) -> Training:
    """20,000 mirrored images, by Adam."""
    parts = images.cifar(data_dir, "cifar100", 20_000)
    task = images.classification(
        *(parts, init, logits, images.mirror), steps=steps, batch=64
    )
    return Training(task, optax.adam, 3e-3)
