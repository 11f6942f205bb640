"""How large an update is, by a part of its entries.

To read all of them once a window would cost some percent of a step, and what a schedule
does, it does to all alike.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from optax_adaptive._controller import Array
from optax_adaptive._leaves import wide

MEASURED = 2**16  # entries at most, but for a leaf that has more by itself


def smallest(updates: optax.Updates) -> list[Array]:
    """The smallest leaves: ``MEASURED`` entries at most, but one leaf at least."""
    leaves = [u for u in jax.tree.leaves(updates) if u.size]
    leaves = [u for u in leaves if jnp.issubdtype(u.dtype, jnp.inexact)]
    leaves = sorted(leaves, key=lambda leaf: leaf.size)
    ends = np.cumsum([leaf.size for leaf in leaves])
    return leaves[: max(1, int(np.searchsorted(ends, MEASURED, side="right")))]


def mean_size(leaves: list[Array]) -> Array:
    """Mean absolute value of all entries, float32 of shape (); 0 if not finite."""
    total = jnp.zeros((), jnp.float32)
    for leaf in leaves:
        total += jnp.sum(jnp.abs(leaf.astype(wide(leaf.dtype)))).astype(jnp.float32)
    mean = total / max(1, sum(leaf.size for leaf in leaves))
    return jnp.where(jnp.isfinite(mean), mean, 0.0)
