"""Evolution strategies: antithetic pairs, scores within each task, Adam on the mean.

Salimans et al., *Evolution strategies as a scalable alternative to reinforcement
learning*, https://arxiv.org/abs/1703.03864, 2017.
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree

from optax_adaptive.controllers.learned.feature_memory import NAMES, SIZE
from optax_adaptive.controllers.learned.policy_network import PolicyWeights

Array = jax.Array

# The policy before training: towards twice what the trials found, further up where
# noise costs less than half of the fall, down where it costs more, and down after a
# blow-up.
FIRST = {
    "near_blow_up": -1.0,
    "is_blown_up": -1.0,
    "cost_above": -0.5,
    "cost_below": -0.5,
}
FIRST_BIAS = math.sqrt(0.25) - 0.5 * math.log10(2.0)
SMOOTHING = 0.97  # of the average of the policies, which is what is evaluated


class Evolution(NamedTuple):
    """What a generation hands to the next."""

    generation: Array  # shape=(), dtype=int32
    center: Array  # shape=(n,), dtype=float32: the policy
    smooth: Array  # shape=(n,), dtype=float32: its average over generations
    optimizer_state: optax.OptState


def first_policy(key: Array, hidden: int = 0) -> PolicyWeights:
    """The hand-set policy; its hidden layer, if any, does nothing yet."""
    linear = np.zeros(SIZE, np.float32)
    for name, weight in FIRST.items():
        linear[NAMES.index(name)] = weight
    layer = np.array(jax.random.normal(key, (SIZE, hidden))) / np.sqrt(SIZE)
    return PolicyWeights(
        linear=jnp.asarray(linear),
        hidden=jnp.asarray(layer, jnp.float32),
        hidden_bias=jnp.zeros(hidden, jnp.float32),
        output=jnp.zeros(hidden, jnp.float32),
        output_bias=jnp.float32(FIRST_BIAS),
    )


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
