"""How large an update is, by the largest entry of one leaf.

To read all leaves would cost some percent of a step, and what a schedule does, it does
to all alike.
"""

import jax
import jax.numpy as jnp
import optax

from optax_adaptive._controller import Array

MEASURED = 2**12  # entries at most, but for a tree whose leaves all have more


def largest_entry(updates: optax.Updates) -> Array:
    """The largest absolute value in the largest leaf of at most ``MEASURED`` entries.

    Returns:
      float32 of shape (), maybe NaN or inf; 0 if there is no leaf.
    """
    leaves = [u for u in jax.tree.leaves(updates) if u.size]
    leaves = [u for u in leaves if jnp.issubdtype(u.dtype, jnp.inexact)]
    leaves = sorted(leaves, key=lambda leaf: leaf.size)
    if not leaves:
        return jnp.zeros((), jnp.float32)
    few = [leaf for leaf in leaves if leaf.size <= MEASURED]
    leaf = few[-1] if few else leaves[0]
    return jnp.max(jnp.abs(leaf)).astype(jnp.float32)
