"""Transfer tasks whose data are functions, distributions and sequences."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from policy.families import Problem, mean_loss
from policy.networks import Network, mlp

Array = jax.Array


def streamed(
    network: Network,
    sample: Callable[[Array, Array, int], tuple[Array, Array]],
    batch_size: int,
    loss_fn: Callable[[Array, Array], Array] = mean_loss,
) -> Callable[[Array], Problem]:
    """Batches drawn anew by ``sample(key of the task, key, size)``."""

    def problem(key):
        def loss(params, batch_key):
            x, y = sample(key, batch_key, batch_size)
            return loss_fn(network.apply(params, x, None), y)

        def evaluate(params):
            x, y = sample(key, jax.random.fold_in(key, 1), 1024)
            return loss_fn(network.apply(params, x, None), y)

        return Problem(network.init, loss, evaluate)

    return problem


def spirals(key: Array) -> Problem:
    """Two spirals of two turns, all 400 points at once."""
    network = mlp((2, 32, 32, 2), jnp.tanh)

    def points(key):
        angle_key, noise_key = jax.random.split(key)
        turn = 4 * jnp.pi * jnp.sqrt(jax.random.uniform(angle_key, (400,)))
        label = jnp.arange(400) % 2
        angle = turn + jnp.pi * label
        x = turn[:, None] / 6 * jnp.stack([jnp.cos(angle), jnp.sin(angle)], -1)
        return x + 0.05 * jax.random.normal(noise_key, x.shape), label

    (x, y), (val_x, val_y) = map(points, jax.random.split(key))
    return Problem(
        network.init,
        lambda params, key: mean_loss(network.apply(params, x, None), y),
        lambda params: mean_loss(network.apply(params, val_x, None), val_y),
    )


def waves(key: Array) -> Problem:
    """A sum of two sines at 64 points at once."""
    network = mlp((1, 64, 64, 1), jnp.tanh)
    phases = jax.random.uniform(key, (2,), maxval=2 * np.pi)

    def loss(params, count):
        x = jnp.linspace(-2.0, 2.0, count)[:, None]
        y = jnp.sin(4 * x + phases[0]) + 0.5 * jnp.sin(9 * x + phases[1])
        return mean_loss(network.apply(params, x, None), y)

    return Problem(
        network.init, lambda params, key: loss(params, 64), partial(loss, count=501)
    )


def linear(key: Array, batch_key: Array, size: int) -> tuple[Array, Array]:
    """Twenty inputs, of sizes two decades apart, and no noise."""
    x = jnp.logspace(-2, 0, 20) * jax.random.normal(batch_key, (size, 20))
    return x, x @ jax.random.normal(key, (20, 1))


def teacher(key: Array, batch_key: Array, size: int) -> tuple[Array, Array]:
    """Values of a random network, and no noise."""
    first, second = jax.random.split(key)
    x = jax.random.normal(batch_key, (size, 8))
    hidden = jnp.tanh(x @ jax.random.normal(first, (8, 16)) / 2)
    return x, hidden @ jax.random.normal(second, (16, 1)) / 4


def copying(key: Array, batch_key: Array, size: int) -> tuple[Array, Array]:
    """Four symbols of eight, four blanks, a sign, and then the four again."""
    symbols = jax.random.randint(batch_key, (size, 4), 0, 8)
    blank, sign = jnp.full((size, 4), 8), jnp.full((size, 4), 9)
    return jnp.concatenate([symbols, blank, sign], 1), symbols


def last_four(outputs: Array, symbols: Array) -> Array:
    """Of the outputs that repeat the symbols."""
    return mean_loss(outputs[:, -4:], symbols)


def heavy_tails(key: Array, batch_key: Array, size: int) -> tuple[Array, Array]:
    """A sine, with noise of Student's t of two degrees of freedom."""
    x_key, noise_key = jax.random.split(batch_key)
    x = jax.random.normal(x_key, (size, 4))
    noise = jax.random.t(noise_key, 2.0, (size,))
    return x, jnp.sin(x @ jax.random.normal(key, (4,))) + 0.3 * noise


def pinball(outputs: Array, y: Array) -> Array:
    """Of the quantile 0.9 (Koenker and Bassett, 1978)."""
    above = y - outputs[:, 0]
    return jnp.maximum(0.9 * above, -0.1 * above).mean()


def diffusion(key: Array, batch_key: Array, size: int) -> tuple[Array, Array]:
    """The noise in mixtures of it and eight points (Ho et al., 2020)."""
    centers = jax.random.normal(key, (8, 2))
    which, noise_key, time_key = jax.random.split(batch_key, 3)
    clean = centers[jax.random.randint(which, (size,), 0, 8)]
    noise = jax.random.normal(noise_key, (size, 2))
    time = jax.random.uniform(time_key, (size, 1)) * jnp.pi / 2
    x = jnp.cos(time) * clean + jnp.sin(time) * noise
    return jnp.concatenate([x, jnp.cos(time), jnp.sin(time)], 1), noise


def density(key: Array) -> Problem:
    """A mixture density network (Bishop, 1994), whose loss is below 0.

    Evaluated by what it lacks of the true density.
    """
    network = mlp((1, 32, 9), jnp.tanh)
    spread, slope = 0.2, jax.random.normal(key, (2,))

    def of_normal(y, center, log_spread):
        z = (y - center) / jnp.exp(log_spread)
        return -0.5 * z**2 - log_spread - 0.5 * np.log(2 * np.pi)

    def sample(key, size):
        x_key, side_key, noise_key = jax.random.split(key, 3)
        x = jax.random.uniform(x_key, (size, 1), minval=-2, maxval=2)
        branch = jnp.sin(x * slope)
        y = jnp.take_along_axis(
            branch, jax.random.randint(side_key, (size, 1), 0, 2), 1
        )[:, 0]
        y += spread * jax.random.normal(noise_key, (size,))
        truth = of_normal(y[:, None], branch, np.log(spread)) - np.log(2)
        return x, y, jax.nn.logsumexp(truth, 1).mean()

    def log_density(params, x, y):
        weight, center, log_spread = jnp.split(network.apply(params, x, None), 3, 1)
        parts = of_normal(y[:, None], center, log_spread) + jax.nn.log_softmax(weight)
        return jax.nn.logsumexp(parts, 1).mean()

    def loss(params, batch_key):
        x, y, _ = sample(batch_key, 32)
        return -log_density(params, x, y) - 10.0

    def evaluate(params):
        x, y, truth = sample(jax.random.fold_in(key, 1), 4096)
        return truth - log_density(params, x, y)

    return Problem(network.init, loss, evaluate)
