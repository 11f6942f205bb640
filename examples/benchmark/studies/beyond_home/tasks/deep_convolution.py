"""A deep convolution with batch norm, whose first loss is above that of a guess.

Its untrained logits are so large that a constant output would do better. So a rate that
ruins the network lowers the loss, too, and few rates, if any, raise it.
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

# Channels of the two convolutions of each stage; each stage halves the sides.
STAGES = (8, 16, 32, 64)


def init(key: Array) -> dict[str, Any]:
    """First parameters."""
    *keys, key = jax.random.split(key, 2 * len(STAGES) + 1)
    layers, inputs = [], 3
    for i, layer_key in enumerate(keys):
        outputs = STAGES[i // 2]
        layers.append(normed(layer_key, 9 * inputs, outputs))
        inputs = outputs
    return {"layers": layers, "out": dense(key, inputs, 10)}


def logits(params: dict[str, Any], x: Array) -> Array:
    """Of images (B, 16, 16, 3), by the statistics of this batch."""
    for i, layer in enumerate(params["layers"]):
        x = jax.nn.relu(normalise_batch(layer, patches(x)))
        if i % 2:
            b, h, w, c = x.shape
            x = x.reshape(b, h // 2, 2, w // 2, 2, c).max((2, 4))
    return linear(params["out"], x[:, 0, 0])


def deep_convolution(data_dir: Path, steps: int = 1500) -> Training:
    """12,000 mirrored images, by Adam."""
    task = images.classification(
        *(images.cifar(data_dir), init, logits, images.mirror), steps=steps, batch=32
    )
    return Training(task, optax.adam, 3e-3)
