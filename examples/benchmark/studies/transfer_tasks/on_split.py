"""Transfer tasks on a training set that lies there, and variations on that."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import optax

from policy import data
from policy.families import Family, Problem, mean_loss, sample
from policy.networks import Network, mlp

Array = jax.Array


def on_split(
    network: Network, split: Callable[[Array], data.Split], batch_size: int
) -> Callable[[Array], Problem]:
    """As task families: batches of a training set, evaluated on data kept apart."""
    family = Family(network, split, batch_size, "", 0.0, 0)
    return partial(sample, family)


def spiking(key: Array) -> Problem:
    """One batch in a hundred has a loss a hundred times as high."""
    problem = on_split(mlp((64, 32, 10)), data.patterns, 32)(key)

    def loss(params, key):
        is_spike = jax.random.uniform(jax.random.fold_in(key, 1)) < 0.01
        return jnp.where(is_spike, 100.0, 1.0) * problem.loss(params, key)

    return problem._replace(loss=loss)


def fine_tuned(key: Array) -> Problem:
    """Ten classes on 200 images, after 300 steps of Adam on the lower five of 6,000."""
    network = mlp((64, 48, 10))
    split = data.patterns(key)
    few = data.Split(split.inputs[:200], split.targets[:200], *split[2:])
    problem = on_split(network, lambda key: few, 16)(key)
    pretraining = on_split(
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


def contrastive(key: Array) -> Problem:
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


def reconstructed(key: Array) -> data.Split:
    """Images, to be given out again."""
    split = data.patterns(key)
    return data.Split(split.inputs, split.inputs, split.val_inputs, split.val_inputs)


def ratings(key: Array) -> Problem:
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
