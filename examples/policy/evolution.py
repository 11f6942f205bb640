"""Evolution strategies: antithetic pairs, scores within each task, Adam on the mean.

Salimans et al., *Evolution strategies as a scalable alternative to reinforcement
learning*, https://arxiv.org/abs/1703.03864, 2017.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree

from optax_adaptive.controllers.learned.policy_network import PolicyWeights

Array = jax.Array

SMOOTHING = 0.97  # of the average of the policies, which is what is evaluated


class Evolution(NamedTuple):
    """What a generation hands to the next."""

    generation: Array  # shape=(), dtype=int32
    center: Array  # shape=(n,), dtype=float32: the policy
    smooth: Array  # shape=(n,), dtype=float32: its average over generations
    optimizer_state: optax.OptState


def optimizer(learning_rate: float) -> optax.GradientTransformation:
    """Adam, on an estimated gradient."""
    return optax.adam(learning_rate, b1=0.9, b2=0.99)


def first_evolution(policy: PolicyWeights, learning_rate: float) -> Evolution:
    """The start."""
    center, _ = ravel_pytree(policy)
    state = optimizer(learning_rate).init(center)
    return Evolution(jnp.zeros((), jnp.int32), center, center, state)


def noise(key: Array, pairs: int, size: int) -> Array:
    """Antithetic directions, shape=(2 * pairs, size): all, then their opposites."""
    half = jax.random.normal(key, (pairs, size))
    return jnp.concatenate([half, -half])


def scores(losses: np.ndarray) -> np.ndarray:
    """Centred scores of the policies on one task, smaller better, in [-4, 4].

    Log losses in units of their spread, which is taken as 0.06 at least: differences
    that hardly matter weigh little, and a failed run no more than a bad one.
    """
    logs = np.log(losses)
    center = np.median(logs)
    spread = max(1.5 * float(np.median(np.abs(logs - center))), 0.06)
    return np.clip((logs - center) / spread, -4.0, 4.0)


def advance(
    evolution: Evolution,
    directions: Array,
    fitness: Array,
    sigma: float,
    learning_rate: float,
    decay: float,
) -> Evolution:
    """One step against the gradient of the mean score, estimated from all policies.

    Args:
      evolution: Where the policies were drawn from.
      directions: From :func:`noise`.
      fitness: Mean scores of the policies, shape=(2 * pairs,), smaller better.
      sigma: Standard deviation of the policies about the centre.
      learning_rate: Of Adam.
      decay: Weight decay a step.

    Returns:
      The next generation's start.
    """
    estimate = directions.T @ fitness / (directions.shape[0] * sigma)
    updates: Any
    updates, state = optimizer(learning_rate).update(
        estimate, evolution.optimizer_state
    )
    return follow(evolution, (1 - decay) * evolution.center + updates, state)


def follow(
    evolution: Evolution, center: Array, optimizer_state: optax.OptState
) -> Evolution:
    """The next generation's start about ``center``, which enters the average."""
    generation = evolution.generation + 1
    weight = 1 - jnp.minimum(SMOOTHING, generation / (generation + 10.0))
    smooth = evolution.smooth + weight * (center - evolution.smooth)
    return Evolution(generation, center, smooth, optimizer_state)
