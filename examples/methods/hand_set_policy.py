"""The policy of ``learned`` before its training: a few weights, set by hand."""

import math

import jax
import jax.numpy as jnp
import numpy as np

from optax_adaptive.controllers.learned.policy_network import PolicyWeights
from optax_adaptive.controllers.learned.state_features import NAMES, SIZE

# The policy before training: towards twice what the trials found, further up where
# noise costs less than half of the decrease, down where it costs more, and down
# after a blow-up.
FIRST = {
    "near_blow_up": -1.0,
    "is_blown_up": -1.0,
    "gap_above": -0.5,
    "gap_below": -0.5,
}
FIRST_BIAS = math.sqrt(0.25) - 0.5 * math.log10(2.0)


def first_policy(key: jax.Array, hidden: int = 0) -> PolicyWeights:
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
