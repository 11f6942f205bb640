"""A deep convolution with batch norm, whose first loss is above that of a guess.

Its untrained logits are so large that a constant output would do better. So a rate that
ruins the network lowers the loss, too, and few rates, if any, raise it.
"""

from functools import partial
from pathlib import Path
from typing import Any

import jax
import optax

from benchmark.studies.beyond_home.tasks import images
from benchmark.studies.beyond_home.tasks.training import Training
from benchmark.tasks.layers import normalise_batch, normed
from benchmark.tasks.task import Array
from policy.networks import dense, linear, patches

# Channels of the convolutions of each stage; each stage halves the sides.
STAGES = (8, 8), (16, 16), (32, 32), (64, 64)
# As VGG-16 (Simonyan and Zisserman, 2015) has them, an eighth as wide; the sides of the
# last stage are 1 already.
VERY_DEEP = (8, 8), (16, 16), (32, 32, 32), (64, 64, 64), (64, 64, 64)

Stages = tuple[tuple[int, ...], ...]


def init(key: Array, stages: Stages = STAGES) -> dict[str, Any]:
    """First parameters."""
    widths = [width for stage in stages for width in stage]
    *keys, key = jax.random.split(key, len(widths) + 1)
    layers, inputs = [], 3
    for layer_key, outputs in zip(keys, widths, strict=True):
        layers.append(normed(layer_key, 9 * inputs, outputs))
        inputs = outputs
    return {"layers": layers, "out": dense(key, inputs, 10)}


def logits(params: dict[str, Any], x: Array, stages: Stages = STAGES) -> Array:
    """Of images (B, 16, 16, 3), by the statistics of this batch."""
    layers = iter(params["layers"])
    for stage in stages:
        for _ in stage:
            x = jax.nn.relu(normalise_batch(next(layers), patches(x)))
        b, h, w, c = x.shape
        if h > 1:
            x = x.reshape(b, h // 2, 2, w // 2, 2, c).max((2, 4))
    return linear(params["out"], x[:, 0, 0])


def deep_convolution(data_dir: Path, steps: int = 1500) -> Training:
    """12,000 mirrored images, by Adam."""
    return _training(data_dir, steps, STAGES)


def very_deep_convolution(data_dir: Path, steps: int = 1000) -> Training:
    """The same images, and thirteen layers."""
    return _training(data_dir, steps, VERY_DEEP)


def _training(data_dir: Path, steps: int, stages: Stages) -> Training:
    own = partial(init, stages=stages), partial(logits, stages=stages)
    task = images.classification(
        images.cifar(data_dir), *own, images.mirror, steps=steps, batch=32
    )
    return Training(task, optax.adam, 3e-3)
