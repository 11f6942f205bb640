"""Hypergradient descent (Baydin et al., ICLR 2018, arXiv 1703.04782), as a baseline.

The multiplicative rule: the learning rate follows the cosine between the newest
gradient and the last update, so that one rate of change suits every scale.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax


class HypergradientState(NamedTuple):
    """What the rule remembers."""

    rate_factor: jax.Array  # shape=(), dtype=float32
    last_update: optax.Updates  # of the base optimizer, before the factor
    base_state: optax.OptState


def hypergradient(
    base: optax.GradientTransformation, step_size: float = 0.02
) -> optax.GradientTransformation:
    """Scales a base optimizer by a factor that follows the hypergradient.

    Args:
      base: An optimizer with a learning rate.
      step_size: Relative change of the factor a step when gradient and last update
        are parallel.

    Returns:
      The wrapped optimizer. It keeps one extra copy of the parameters.
    """

    def init_fn(params):
        return HypergradientState(
            rate_factor=jnp.ones((), jnp.float32),
            last_update=optax.tree.zeros_like(params),
            base_state=base.init(params),
        )

    def update_fn(updates, state, params=None):
        product = optax.tree.vdot(updates, state.last_update)
        norms = optax.tree.norm(updates) * optax.tree.norm(state.last_update)
        # Updates point downhill: a negative product means that the last step could
        # have been longer.
        cosine = -jnp.asarray(product / jnp.maximum(norms, 1e-30), jnp.float32)
        factor = state.rate_factor * (1 + step_size * cosine)
        updates, base_state = base.update(updates, state.base_state, params)
        scaled = optax.tree.scale(factor, updates)
        return scaled, HypergradientState(factor, updates, base_state)

    return optax.GradientTransformation(init_fn, update_fn)
