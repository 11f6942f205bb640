"""Images, easy: a network with dropout 0.5 on noisy 8x8 digits."""

import jax
import jax.numpy as jnp
import numpy as np

from benchmark.tasks.layers import cross_entropy, percent_correct
from benchmark.tasks.task import Task
from policy.networks import dense, linear

TRAIN, VALIDATION = 1200, 1500  # where the splits end, of 1797 images
SIZES = (64, 128, 64, 10)


def digits(steps: int = 2000, batch: int = 64, label_noise: float = 0.0) -> Task:
    """64-128-64-10, with new pixel noise in every batch."""
    from sklearn.datasets import load_digits

    pixels, classes = map(np.asarray, load_digits(return_X_y=True))
    order = np.random.RandomState(0).permutation(len(classes))
    images = jnp.asarray(pixels[order] / 16.0, jnp.float32)
    labels = jnp.asarray(classes[order], jnp.int32)

    def add_noise(key, x):
        return x + 0.3 * jax.random.normal(key, x.shape)

    def two_copies(part, key):
        noisy = [add_noise(k, images[part]) for k in jax.random.split(key)]
        return jnp.concatenate(noisy), jnp.tile(labels[part], 2)

    parts = {
        "train": slice(VALIDATION - TRAIN),
        "validation": slice(TRAIN, VALIDATION),
        "test": slice(VALIDATION, None),
    }
    fixed = {
        name: two_copies(part, jax.random.key(7 + i))
        for i, (name, part) in enumerate(parts.items())
    }

    def init(key):
        keys = jax.random.split(key, 3)
        return [dense(k, *SIZES[i : i + 2]) for i, k in enumerate(keys)]

    def forward(params, x, key=None):
        for i, layer in enumerate(params[:-1]):
            x = jax.nn.relu(linear(layer, x))
            if key is not None:
                kept = jax.random.bernoulli(jax.random.fold_in(key, i), 0.5, x.shape)
                x = jnp.where(kept, 2.0 * x, 0.0)
        return linear(params[-1], x)

    def loss(params, key):
        index_key, noise_key, flip_key, label_key, drop_key = jax.random.split(key, 5)
        index = jax.random.randint(index_key, (batch,), 0, TRAIN)
        targets = labels[index]
        if label_noise:
            flips = jax.random.bernoulli(flip_key, label_noise, targets.shape)
            random = jax.random.randint(label_key, targets.shape, 0, 10)
            targets = jnp.where(flips, random, targets)
        inputs = add_noise(noise_key, images[index])
        return cross_entropy(forward(params, inputs, drop_key), targets)

    def evaluate(params, split):
        inputs, targets = fixed[split]
        return percent_correct(forward(params, inputs), targets)

    return Task(steps, TRAIN // batch, init, loss, evaluate, True, "% correct")
