"""Images, hard: a small batch-norm network on CIFAR-10, halved to 16x16."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmark.tasks.layers import cross_entropy, percent_correct
from benchmark.tasks.task import Task
from policy.networks import dense, linear, patches

TRAIN, VALIDATION, TEST = 12_000, 600, 2_000
STATISTICS = 128  # training images that give batch norm its statistics in evaluation
CHANNELS = (3, 8, 16, 32)


def load(
    split: str, size: int, data_dir: Path, name: str = "cifar10"
) -> tuple[jax.Array, jax.Array]:
    """The first images of a split, as TFDS prepared them, and their classes.

    Raises:
      SystemExit: If the data set, cifar10 or cifar100, is not in ``data_dir``.
    """
    if not any((data_dir / name).glob("**/dataset_info.json")):
        raise SystemExit(
            f"{name} isn't in {data_dir}; prepare it once, with network access:\n"
            f"  python examples/prepare_data.py {name} --data-dir {data_dir}\n"
            "or leave out the tasks that need it"
        )
    import tensorflow_datasets as tfds

    source: Any = tfds.data_source(name, split=split, data_dir=data_dir, download=False)
    rows = [source[i] for i in range(size)]
    images = np.stack([row["image"] for row in rows]).astype(np.float32)
    images = images.reshape(size, 16, 2, 16, 2, 3).mean((2, 4))
    labels = np.array([row["label"] for row in rows], np.int32)
    return jnp.asarray((images / 255 - 0.47) / 0.25), jnp.asarray(labels)


def cnn(data_dir: Path, steps: int = 800, batch: int = 32) -> Task:
    """8-16-32 channels, mirrored images.

    Batch normalisation uses the batch in training and ``STATISTICS`` training images in
    evaluation, which is what averaged weights need in any case.
    """
    images, labels = load("train", TRAIN + VALIDATION, data_dir)
    test_images, test_labels = load("test", TEST, data_dir)
    held_out = slice(TRAIN, TRAIN + VALIDATION)
    fixed = {
        "train": (images[:VALIDATION], labels[:VALIDATION]),
        "validation": (images[held_out], labels[held_out]),
        "test": (test_images, test_labels),
    }

    def init(key):
        keys = jax.random.split(key, 4)
        layers = [
            {
                "kernel": jax.random.normal(k, (9 * c, d)) * np.sqrt(2 / (9 * c)),
                "scale": jnp.ones(d),
                "bias": jnp.zeros(d),
            }
            for k, c, d in zip(keys, CHANNELS[:-1], CHANNELS[1:], strict=False)
        ]
        return {"layers": layers, "out": dense(keys[3], CHANNELS[-1], 10)}

    def forward(params, x, stats=None):
        seen = []
        for i, layer in enumerate(params["layers"]):
            x = patches(x) @ layer["kernel"]
            axes = (0, 1, 2)
            mean, var = (x.mean(axes), x.var(axes)) if stats is None else stats[i]
            seen.append((mean, var))
            x = (x - mean) * jax.lax.rsqrt(var + 1e-5) * layer["scale"] + layer["bias"]
            x = jax.nn.relu(x)
            if i < 2:
                b, h, w, c = x.shape
                x = x.reshape(b, h // 2, 2, w // 2, 2, c).max((2, 4))
        return linear(params["out"], x.mean((1, 2))), seen

    def loss(params, key):
        index_key, flip_key = jax.random.split(key)
        index = jax.random.randint(index_key, (batch,), 0, TRAIN)
        flips = jax.random.bernoulli(flip_key, 0.5, (batch, 1, 1, 1))
        x = jnp.where(flips, images[index][:, :, ::-1], images[index])
        return cross_entropy(forward(params, x)[0], labels[index])

    def evaluate(params, split):
        inputs, targets = fixed[split]
        _, stats = forward(params, images[:STATISTICS])
        logits, _ = forward(params, inputs, stats)
        return percent_correct(logits, targets)

    return Task(steps, TRAIN // batch, init, loss, evaluate, True, "% correct")
