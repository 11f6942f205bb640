"""How much of what a learner wants is done: nothing of a whim, all of what persists.

A prior that is fitted to have the least regret in each state by itself hedges: it wants
a part of what is best, and in the noise a little of what is not. Their mean over states
knows more than each. So a small one is left undone, since even a factor that is right
in the mean costs by its coming and going, and of a larger one more is done than is
wanted. Down at once: a rate too large does harm meanwhile.
"""

import jax.numpy as jnp

from optax_adaptive._controller import Array

_NEWEST = 0.3  # weight of the newest in the mean, on the way up
_LEFT_UNDONE = 0.2  # a factor of 1.6, with a bound of ten
_GAIN = 3.0  # of what is beyond


def weigh(mean: Array, wanted: Array) -> Array:
    """The mean of what was wanted, this action included; each float32, shape=()."""
    return jnp.minimum(wanted, mean + _NEWEST * (wanted - mean))


def resolved(mean: Array) -> Array:
    """The action that it leads to, in [-1, 1]."""
    beyond = jnp.maximum(jnp.abs(mean) - _LEFT_UNDONE, 0.0)
    return jnp.sign(mean) * jnp.minimum(_GAIN * beyond, 1.0)
