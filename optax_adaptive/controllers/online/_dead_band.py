"""From proposals to an action: a mean, then a dead band with a gain beyond it.

A prior that minimises the regret of each state alone is cautious: it proposes only a
part of the best action and, where there is noise, a little of a bad one. The mean over
states is more reliable than any proposal. A small mean changes nothing, since a
factor that comes and goes does more harm than good; a larger one is amplified. The mean
falls at once and rises slowly, since a learning rate that is too large does harm.
"""

import jax.numpy as jnp

from optax_adaptive._controller import Array
from optax_adaptive.controllers.online.settings import OnlineSettings


def smoothed(mean: Array, proposal: Array, settings: OnlineSettings) -> Array:
    """The mean of the proposals, this one included; each float32."""
    weight = settings.smoothing_weight
    return jnp.minimum(proposal, mean + weight * (proposal - mean))


def action_of(mean: Array, settings: OnlineSettings) -> Array:
    """The action for a mean proposal, in [-1, 1]; 0 within the dead band."""
    beyond = jnp.maximum(jnp.abs(mean) - settings.dead_band, 0.0)
    return jnp.sign(mean) * jnp.minimum(settings.gain * beyond, 1.0)
