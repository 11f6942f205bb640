"""Transfer tasks: small trainings unlike those that the rules were found on.

Full batches and streams, losses that start flat, are negative or spike, fine-tuning and
few data, other objectives than classification, other optimizers. All were drawn up
before any was run. A key draws the data, their noise and the first parameters.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from optax import contrib

from benchmark.studies.transfer_tasks import on_samples, on_split, other_networks
from methods.optimizers import Make, without_momentum
from policy import data
from policy.families import Problem
from policy.networks import attention, conv, mlp, recurrent

Array = jax.Array


class Training(NamedTuple):
    """One of them."""

    problem: Callable[[Array], Problem]  # key -> problem
    optimizer: Make  # learning rate -> optimizer
    steps: int
    largest_norm: float | None = None  # of a gradient, to which it is clipped

    def make(
        self, learning_rate: Any, has_momentum: bool = True
    ) -> optax.GradientTransformation:
        """The optimizer, or the same without momentum."""
        make = self.optimizer if has_momentum else without_momentum(self.optimizer)
        if self.largest_norm is None:
            return make(learning_rate)
        clip = optax.clip_by_global_norm(self.largest_norm)
        return optax.chain(clip, make(learning_rate))


_adamw = partial(optax.adamw, weight_decay=0.1)
_momentum = partial(optax.sgd, momentum=0.9)
_symbols = len(data.ALPHABET)

_small = mlp((64, 32, 10))


TRAININGS = {
    "spirals, full batch": Training(on_samples.spirals, optax.adam, 1000),
    "waves, full batch, momentum": Training(on_samples.waves, _momentum, 1000),
    "autoencoder, AdamW": Training(
        on_split.on_split(
            mlp((64, 32, 8, 32, 64), jax.nn.gelu), on_split.reconstructed, 32
        ),
        _adamw,
        800,
    ),
    "ill-conditioned stream": Training(
        on_samples.streamed(mlp((20, 1)), on_samples.linear, 32), optax.adam, 1000
    ),
    "stream of a teacher, SGD": Training(
        on_samples.streamed(mlp((8, 32, 1), jnp.tanh), on_samples.teacher, 64),
        optax.sgd,
        1000,
    ),
    "diffusion": Training(
        on_samples.streamed(mlp((4, 48, 48, 2), jax.nn.silu), on_samples.diffusion, 64),
        optax.adam,
        1200,
    ),
    "density below 0": Training(on_samples.density, optax.adam, 800),
    "spikes": Training(on_split.spiking, optax.adam, 600),
    "flat start": Training(
        on_split.on_split(mlp((64, 24, 24, 24, 10), jax.nn.sigmoid), data.patterns, 32),
        optax.adam,
        1200,
    ),
    "fine-tuning, AdamW": Training(on_split.fine_tuned, _adamw, 600),
    "contrastive": Training(on_split.contrastive, optax.adam, 600),
    "100 images, AdamW": Training(
        on_split.on_split(_small, partial(data.patterns, train=100), 16), _adamw, 800
    ),
    "ratings, Adagrad": Training(on_split.ratings, optax.adagrad, 1500),
    "quantile of heavy tails": Training(
        on_samples.streamed(
            mlp((4, 32, 1), jax.nn.gelu), on_samples.heavy_tails, 32, on_samples.pinball
        ),
        optax.adam,
        800,
    ),
    "attention, Muon": Training(
        on_split.on_split(attention(16, 16, _symbols), data.letters, 8),
        contrib.muon,
        500,
    ),
    "attention, AdamW, clipped by norm": Training(
        on_split.on_split(attention(24, 16, _symbols, 2), data.letters, 16),
        _adamw,
        600,
        largest_norm=1.0,
    ),
    "convolution, Adafactor": Training(
        on_split.on_split(conv((4, 8), 10), data.patterns, 16),
        optax.adafactor,
        500,
    ),
    "LSTM, Lion": Training(
        on_split.on_split(recurrent("lstm", 24, 12, 12), data.markov, 8),
        optax.lion,
        600,
    ),
    "copying by a GRU": Training(
        on_samples.streamed(
            recurrent("gru", 24, 10, 8), on_samples.copying, 32, on_samples.last_four
        ),
        optax.adam,
        1500,
    ),
    "weights of one bit": Training(
        on_split.on_split(other_networks.one_bit((64, 48, 10)), data.patterns, 32),
        optax.adam,
        800,
    ),
    "parameters of bfloat16": Training(
        on_split.on_split(other_networks.coarse(_small), data.patterns, 32),
        optax.adam,
        600,
    ),
}
