"""Small trainings of other makes than those that the rules were found on.

Full batches and streams, losses that start flat, are negative or spike, fine-tuning and
few data, other objectives than classification, other optimizers. All were drawn up
before any was run. A key draws the data, their noise and the first parameters.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from optax import contrib

from policy import data
from policy.families import Family, Problem, mean_loss, sample
from policy.networks import Network, attention, conv, mlp, recurrent

Array = jax.Array
Make = Callable[[Any], optax.GradientTransformation]  # rate -> optimizer


class Training(NamedTuple):
    """A training of one make."""

    problem: Callable[[Array], Problem]  # key -> problem
    optimizers: tuple[Make, Make]  # the usual one, and without momentum
    steps: int


_adam = (optax.adam, partial(optax.adam, b1=0.0))
_adamw = (
    partial(optax.adamw, weight_decay=0.1),
    partial(optax.adamw, b1=0.0, weight_decay=0.1),
)
_clipped_adamw = (
    lambda rate: optax.chain(optax.clip_by_global_norm(1.0), _adamw[0](rate)),
    lambda rate: optax.chain(optax.clip_by_global_norm(1.0), _adamw[1](rate)),
)
_momentum = (partial(optax.sgd, momentum=0.9), optax.sgd)
_lion = (optax.lion, partial(optax.lion, b1=0.0))
_muon = (contrib.muon, partial(contrib.muon, beta=0.0, adam_b1=0.0))


def _on_split(
    network: Network, split: Callable[[Array], data.Split], batch_size: int
) -> Callable[[Array], Problem]:
    """As task families: batches of a training set, evaluated on data kept apart."""
    family = Family(network, split, batch_size, "", 0.0, 0)
    return partial(sample, family)


def _streamed(
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


def _spirals(key: Array) -> Problem:
    """Two arms of two turns, all 400 points at once."""
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


def _waves(key: Array) -> Problem:
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


def _linear(key: Array, batch_key: Array, size: int) -> tuple[Array, Array]:
    """Twenty inputs, of sizes two decades apart, and no noise."""
    x = jnp.logspace(-2, 0, 20) * jax.random.normal(batch_key, (size, 20))
    return x, x @ jax.random.normal(key, (20, 1))


def _teacher(key: Array, batch_key: Array, size: int) -> tuple[Array, Array]:
    first, second = jax.random.split(key)
    x = jax.random.normal(batch_key, (size, 8))
    hidden = jnp.tanh(x @ jax.random.normal(first, (8, 16)) / 2)
    return x, hidden @ jax.random.normal(second, (16, 1)) / 4


def _copying(key: Array, batch_key: Array, size: int) -> tuple[Array, Array]:
    """Four symbols of eight, four blanks, a sign, and then the four again."""
    symbols = jax.random.randint(batch_key, (size, 4), 0, 8)
    blank, sign = jnp.full((size, 4), 8), jnp.full((size, 4), 9)
    return jnp.concatenate([symbols, blank, sign], 1), symbols


def _last_four(outputs: Array, symbols: Array) -> Array:
    return mean_loss(outputs[:, -4:], symbols)


def _heavy_tails(key: Array, batch_key: Array, size: int) -> tuple[Array, Array]:
    x_key, noise_key = jax.random.split(batch_key)
    x = jax.random.normal(x_key, (size, 4))
    noise = jax.random.t(noise_key, 2.0, (size,))
    return x, jnp.sin(x @ jax.random.normal(key, (4,))) + 0.3 * noise


def _pinball(outputs: Array, y: Array) -> Array:
    """Of the quantile 0.9 (Koenker and Bassett, 1978)."""
    above = y - outputs[:, 0]
    return jnp.maximum(0.9 * above, -0.1 * above).mean()


def _diffusion(key: Array, batch_key: Array, size: int) -> tuple[Array, Array]:
    """The noise in mixtures of it and eight points (Ho et al., 2020)."""
    centers = jax.random.normal(key, (8, 2))
    which, noise_key, time_key = jax.random.split(batch_key, 3)
    clean = centers[jax.random.randint(which, (size,), 0, 8)]
    noise = jax.random.normal(noise_key, (size, 2))
    time = jax.random.uniform(time_key, (size, 1)) * jnp.pi / 2
    x = jnp.cos(time) * clean + jnp.sin(time) * noise
    return jnp.concatenate([x, jnp.cos(time), jnp.sin(time)], 1), noise


def _density(key: Array) -> Problem:
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


def _spiking(key: Array) -> Problem:
    """One batch in a hundred has a loss a hundred times as high."""
    problem = _on_split(mlp((64, 32, 10)), data.patterns, 32)(key)

    def loss(params, key):
        is_spike = jax.random.uniform(jax.random.fold_in(key, 1)) < 0.01
        return jnp.where(is_spike, 100.0, 1.0) * problem.loss(params, key)

    return problem._replace(loss=loss)


def _fine_tuned(key: Array) -> Problem:
    """Ten classes on 200 images, after 300 steps of Adam on the lower five of 6,000."""
    network = mlp((64, 48, 10))
    split = data.patterns(key)
    few = data.Split(split.inputs[:200], split.targets[:200], *split[2:])
    problem = _on_split(network, lambda key: few, 16)(key)
    pretraining = _on_split(
        network, lambda key: split._replace(targets=split.targets % 5), 32
    )(key)
    tx = optax.adam(3e-3)

    def init(init_key):
        def step(carry, step_key):
            params, state = carry
            grads = jax.grad(pretraining.loss)(params, step_key)
            updates, state = tx.update(grads, state, params)
            return (optax.apply_updates(params, updates), state), None

        params = network.init(init_key)
        keys = jax.random.split(init_key, 300)
        (params, _), _ = jax.lax.scan(step, (params, tx.init(params)), keys)
        return params

    return problem._replace(init=init)


def _contrastive(key: Array) -> Problem:
    """Two noisy views of an image tell it from 63 others (Chen et al., 2020)."""
    network = mlp((64, 48, 16), jax.nn.gelu)
    split = data.patterns(key)

    def of_images(params, images, noise_key):
        noise = 0.5 * jax.random.normal(noise_key, (2, *images.shape))
        views = network.apply(params, images + noise, None)
        a, b = views / (jnp.linalg.norm(views, axis=-1, keepdims=True) + 1e-6)
        return mean_loss(a @ b.T / 0.2, jnp.arange(len(images)))

    def loss(params, key):
        index_key, noise_key = jax.random.split(key)
        index = jax.random.randint(index_key, (64,), 0, len(split.inputs))
        return of_images(params, split.inputs[index], noise_key)

    def evaluate(params):
        batches = split.val_inputs.reshape(8, 64, 64)
        keys = jax.random.split(key, 8)
        return jax.vmap(partial(of_images, params))(batches, keys).mean()

    return Problem(network.init, loss, evaluate)


def _reconstructed(key: Array) -> data.Split:
    split = data.patterns(key)
    return data.Split(split.inputs, split.inputs, split.val_inputs, split.val_inputs)


def _ratings(key: Array) -> Problem:
    """Products of four factors for 100 times 60 pairs, a third of them known."""
    keys = jax.random.split(key, 5)
    rows, columns = jnp.divmod(jax.random.permutation(keys[0], 6000), 60)
    truth = jnp.sum(
        jax.random.normal(keys[1], (100, 4))[rows]
        * jax.random.normal(keys[2], (60, 4))[columns],
        1,
    )
    seen = truth + 0.3 * jax.random.normal(keys[3], truth.shape)

    def init(key):
        a, b = jax.random.split(key)
        return (
            0.1 * jax.random.normal(a, (100, 4)),
            0.1 * jax.random.normal(b, (60, 4)),
        )

    def of_pairs(params, index):
        return jnp.sum(params[0][rows[index]] * params[1][columns[index]], 1)

    def loss(params, key):
        index = jax.random.randint(key, (64,), 0, 2000)
        return mean_loss(of_pairs(params, index), seen[index])

    def evaluate(params):
        return mean_loss(of_pairs(params, jnp.arange(2000, 6000)), truth[2000:])

    return Problem(init, loss, evaluate)


def _one_bit(sizes: tuple[int, ...]) -> Network:
    """Weights by their signs; straight through for gradients (Bengio et al., 2013)."""
    network = mlp(sizes)

    def binary(leaf):
        signs = jnp.sign(leaf) * jnp.abs(leaf).mean()
        return leaf + jax.lax.stop_gradient(signs - leaf) if leaf.ndim > 1 else leaf

    return Network(
        network.init, lambda params, *rest: network.apply(_map(binary, params), *rest)
    )


def _coarse(network: Network) -> Network:
    """Parameters of bfloat16."""
    return network._replace(
        init=lambda key: _map(lambda x: x.astype(jnp.bfloat16), network.init(key))
    )


_map = jax.tree.map
_symbols = len(data.ALPHABET)
_small = mlp((64, 32, 10))

TRAININGS = {
    "spirals, full batch": Training(_spirals, _adam, 1000),
    "waves, full batch, momentum": Training(_waves, _momentum, 1000),
    "autoencoder, AdamW": Training(
        _on_split(mlp((64, 32, 8, 32, 64), jax.nn.gelu), _reconstructed, 32),
        _adamw,
        800,
    ),
    "ill-conditioned stream": Training(
        _streamed(mlp((20, 1)), _linear, 32), _adam, 1000
    ),
    "stream of a teacher, SGD": Training(
        _streamed(mlp((8, 32, 1), jnp.tanh), _teacher, 64),
        (optax.sgd, optax.sgd),
        1000,
    ),
    "diffusion": Training(
        _streamed(mlp((4, 48, 48, 2), jax.nn.silu), _diffusion, 64), _adam, 1200
    ),
    "density below 0": Training(_density, _adam, 800),
    "spikes": Training(_spiking, _adam, 600),
    "flat start": Training(
        _on_split(mlp((64, 24, 24, 24, 10), jax.nn.sigmoid), data.patterns, 32),
        _adam,
        1200,
    ),
    "fine-tuning, AdamW": Training(_fine_tuned, _adamw, 600),
    "contrastive": Training(_contrastive, _adam, 600),
    "100 images, AdamW": Training(
        _on_split(_small, partial(data.patterns, train=100), 16), _adamw, 800
    ),
    "ratings, Adagrad": Training(_ratings, (optax.adagrad, optax.adagrad), 1500),
    "quantile of heavy tails": Training(
        _streamed(mlp((4, 32, 1), jax.nn.gelu), _heavy_tails, 32, _pinball),
        _adam,
        800,
    ),
    "attention, Muon": Training(
        _on_split(attention(16, 16, _symbols), data.letters, 8), _muon, 500
    ),
    "attention, AdamW, clipped by norm": Training(
        _on_split(attention(24, 16, _symbols, 2), data.letters, 16),
        _clipped_adamw,
        600,
    ),
    "convolution, Adafactor": Training(
        _on_split(conv((4, 8), 10), data.patterns, 16),
        (optax.adafactor, optax.adafactor),
        500,
    ),
    "LSTM, Lion": Training(
        _on_split(recurrent("lstm", 24, 12, 12), data.markov, 8), _lion, 600
    ),
    "copying by a GRU": Training(
        _streamed(recurrent("gru", 24, 10, 8), _copying, 32, _last_four), _adam, 1500
    ),
    "weights of one bit": Training(
        _on_split(_one_bit((64, 48, 10)), data.patterns, 32), _adam, 800
    ),
    "parameters of bfloat16": Training(
        _on_split(_coarse(_small), data.patterns, 32), _adam, 600
    ),
}
