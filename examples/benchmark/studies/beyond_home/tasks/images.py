"""Images by class: small digits, and CIFAR halved to 16x16, in three parts."""

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmark.tasks.cnn import load
from benchmark.tasks.layers import cross_entropy
from benchmark.tasks.task import SPLITS, Array, Split, Task

Part = tuple[np.ndarray, np.ndarray]  # images, float32, and classes, int32
Parts = dict[Split, Part]
EVALUATED = 1000  # images of a part; of fewer, as many copies as there is room for


@cache
def digits() -> Parts:
    """Scikit-learn's 8x8 digits as (images, 64) of values in [0, 1]."""
    from sklearn.datasets import load_digits

    pixels, classes = map(np.asarray, load_digits(return_X_y=True))
    order = np.random.RandomState(0).permutation(len(classes))
    ends = [1200, 1500]
    images = np.split(pixels[order].astype(np.float32) / 16, ends)
    labels = np.split(classes[order].astype(np.int32), ends)
    return dict(zip(SPLITS, zip(images, labels, strict=True), strict=True))


@cache
def cifar(data_dir: Path, name: str = "cifar10", size: int = 12_000) -> Parts:
    """``size``, 2,000 and 2,000 images (images, 16, 16, 3), standard deviation near 1.

    Raises:
      SystemExit: If the data set, cifar10 or cifar100, is not in ``data_dir``.
    """
    images, labels = map(np.asarray, load("train", size + 2000, data_dir, name))
    test_images, test_labels = map(np.asarray, load("test", 2000, data_dir, name))
    return {
        "train": (images[:size], labels[:size]),
        "validation": (images[size:], labels[size:]),
        "test": (test_images, test_labels),
    }


def of_classes(parts: Parts, classes: Sequence[int]) -> Parts:
    """The images of these classes alone, which are numbered from 0."""
    chosen: Parts = {}
    for split, (images, labels) in parts.items():
        kept = np.isin(labels, classes)
        numbered = np.searchsorted(classes, labels[kept])
        chosen[split] = images[kept], numbered.astype(np.int32)
    return chosen


def add_noise(key: Array, images: Array) -> Array:
    """On each pixel."""
    return images + 0.3 * jax.random.normal(key, images.shape)


def mirror(key: Array, images: Array) -> Array:
    """Half of them, (B, H, W, C)."""
    flips = jax.random.bernoulli(key, 0.5, (images.shape[0], 1, 1, 1))
    return jnp.where(flips, images[:, :, ::-1], images)


def evaluated(images: np.ndarray, labels: np.ndarray) -> tuple[Array, Array]:
    """Those of a part that are, in copies that are augmented each by itself."""
    copies = max(EVALUATED // len(labels), 1)
    chosen = np.tile(np.arange(len(labels)), copies)[:EVALUATED]
    return jnp.asarray(images[chosen]), jnp.asarray(labels[chosen])


def classification(
    parts: Parts,
    init: Callable[[Array], Any],
    logits: Callable[[Any, Array], Array],
    augment: Callable[[Array, Array], Array],
    *,
    steps: int,
    batch: int,
) -> Task:
    """The cross entropy of classes, of images that a key augments."""
    fixed = {split: evaluated(*part) for split, part in parts.items()}
    train_images, train_labels = map(jnp.asarray, parts["train"])
    size = train_labels.shape[0]

    def loss(params, key):
        index_key, augment_key = jax.random.split(key)
        index = jax.random.randint(index_key, (batch,), 0, size)
        images = augment(augment_key, train_images[index])
        return cross_entropy(logits(params, images), train_labels[index])

    def evaluate(params, split):
        images, labels = fixed[split]
        images = augment(jax.random.key(7), images)
        return cross_entropy(logits(params, images), labels)

    return Task(steps, size // batch, init, loss, evaluate, False, "nats")
