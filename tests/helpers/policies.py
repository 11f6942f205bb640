"""Weights of a policy: random ones, and those of a constant action."""

import jax
import numpy as np

from optax_adaptive.controllers.learned.policy_network import (
    PolicyWeights,
)
from optax_adaptive.controllers.learned.state_features import SIZE


def random_weights(seed=0, size=0.1, hidden=5):
    rng = np.random.default_rng(seed)

    def normal(*shape):
        return np.float32(size * rng.normal(size=shape))

    return PolicyWeights(
        normal(SIZE),
        normal(SIZE, hidden),
        normal(hidden),
        normal(hidden),
        np.float32(0.1),
    )


def constant_policy(bias):
    """Always the same action."""
    zero = jax.tree.map(np.zeros_like, random_weights())
    return zero._replace(output_bias=np.float32(bias))
