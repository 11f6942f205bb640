"""A diffusion model: the noise in 8x8 digits (Ho, Jain and Abbeel, 2020)."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from benchmark.studies.beyond_home.tasks import images
from benchmark.studies.beyond_home.tasks.training import Training
from benchmark.tasks.task import Array, Task
from policy.networks import dense, linear, normalise

WIDTH, DEPTH = 128, 2
FREQUENCIES = 8  # of the time
DRAWS = 4  # of time and noise for each image, in an evaluation


def init(key: Array) -> dict[str, Any]:
    """First parameters of residual blocks."""
    keys = iter(jax.random.split(key, 2 + 3 * DEPTH))
    return {
        "in": dense(next(keys), 64, WIDTH),
        "out": dense(next(keys), WIDTH, 64),
        "blocks": [
            {
                "first": dense(next(keys), WIDTH, WIDTH),
                "time": dense(next(keys), 2 * FREQUENCIES, WIDTH),
                "second": dense(next(keys), WIDTH, WIDTH),
            }
            for _ in range(DEPTH)
        ],
    }


def noise_of(params: dict[str, Any], x: Array, time: Array) -> Array:
    """The network's guess, (B, 64), from noisy images and times in [0, 1], (B, 1)."""
    angles = time * 2.0 ** jnp.arange(FREQUENCIES)
    waves = jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], -1)
    x = linear(params["in"], x)
    for block in params["blocks"]:
        hidden = linear(block["first"], normalise(x)) + linear(block["time"], waves)
        x = x + linear(block["second"], jax.nn.silu(hidden))
    return linear(params["out"], normalise(x))


def error(params: dict[str, Any], clean: Array, key: Array) -> Array:
    """Mean square of what is wrong of the noise, at times drawn evenly."""
    time_key, noise_key = jax.random.split(key)
    time = jax.random.uniform(time_key, (clean.shape[0], 1))
    noise = jax.random.normal(noise_key, clean.shape)
    # Variances of image and noise sum to 1, with cosines for their roots.
    signal, share = jnp.cos(jnp.pi / 2 * time), jnp.sin(jnp.pi / 2 * time)
    guess = noise_of(params, signal * clean + share * noise, time)
    return jnp.square(guess - noise).mean()


def diffusion(steps: int = 5000, batch: int = 64) -> Training:
    """On 1,200 digits, with Adam."""
    clean = {
        split: jnp.asarray(
            4 * pixels - 1.2
        )  # of a mean near 0 and a standard deviation near 1.5
        for split, (pixels, _) in images.digits().items()
    }
    size = clean["train"].shape[0]

    def loss(params, key):
        index_key, key = jax.random.split(key)
        index = jax.random.randint(index_key, (batch,), 0, size)
        return error(params, clean["train"][index], key)

    def evaluate(params, split):
        repeated = jnp.tile(clean[split], (DRAWS, 1))
        return error(params, repeated, jax.random.key(7))

    task = Task(steps, size // batch, init, loss, evaluate, False, "squares")
    return Training(task, optax.adam, 3e-3)
