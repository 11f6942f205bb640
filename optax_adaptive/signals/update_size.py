"""How large updates and gradients are, by parts that stand for the whole.

Reading all leaves would cost some percent of a step. One leaf of an update is enough,
since a schedule changes all leaves alike. Of gradients, small leaves such as biases are
read whole, and of larger ones the middle row: backpropagation spreads what is not
finite over all columns of a gradient, or it shows in a bias. Of matrices, and
where no leaf is read whole, the middle column is read too: the middle row may be that
of an input that is always 0, or of a word that is in no batch.
"""

import collections
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import NamedSharding, PartitionSpec

from optax_adaptive._controller import Array

FEW = 2**12  # most entries of a leaf that is read whole


def largest_entry(updates: optax.Updates) -> Array:
    """The largest absolute value in the largest leaf of at most ``FEW`` entries.

    If all leaves have more, it is that in the smallest one.

    Returns:
      float32 of shape (), maybe NaN or inf; 0 if there is no leaf.
    """
    leaves = [u for u in jax.tree.leaves(updates) if u.size]
    leaves = [u for u in leaves if jnp.issubdtype(u.dtype, jnp.inexact)]
    leaves = sorted(leaves, key=lambda leaf: leaf.size)
    if not leaves:
        return jnp.zeros((), jnp.float32)
    few = [leaf for leaf in leaves if leaf.size <= FEW]
    leaf = few[-1] if few else leaves[0]
    return jnp.max(jnp.abs(leaf)).astype(jnp.float32)


def largest_of_sample(tree: Any) -> Array:
    """The largest |entry| of a sample, float32 of shape (); inf or NaN if one is."""
    return _of_sample(_largest, tree)


def nonfinite_in_sample(updates: optax.Updates, inner_state: Any) -> Array:
    """How many entries of small updates, and of a sample of the state, are inf or NaN.

    To read a row of a large update XLA would write out all of it, since the optimizer's
    operations are too expensive to be repeated. Its state is written in any case.

    Returns:
      int32 of shape ().
    """
    small = [leaf for leaf in jax.tree.leaves(updates) if leaf.size <= FEW]
    # Not its scalars: a best value may be inf until there is one.
    kept = [leaf for leaf in jax.tree.leaves(inner_state) if jnp.ndim(leaf)]
    return _of_sample(_nonfinite, [*small, *kept])


def _largest(vectors: list[Array]) -> Array:
    peaks = [jnp.max(jnp.abs(vector)).astype(jnp.float32) for vector in vectors]
    return jnp.max(jnp.stack(peaks)) if peaks else jnp.zeros((), jnp.float32)


def _nonfinite(vectors: list[Array]) -> Array:
    counts = [jnp.sum(~jnp.isfinite(vector), dtype=jnp.int32) for vector in vectors]
    none = jnp.zeros((), jnp.int32)
    return jnp.sum(jnp.stack(counts), dtype=jnp.int32) if counts else none


def _of_sample(measure: Callable[[list[Array]], Array], tree: Any) -> Array:
    leaves = jax.tree.leaves(tree)
    meshes = [jax.typeof(leaf).sharding.mesh for leaf in leaves]
    explicit = [mesh for mesh in meshes if mesh.explicit_axes]
    if not explicit:
        return measure(_sampled(leaves))
    # Where types say how arrays are sharded, each part would need such a type.
    whole = NamedSharding(explicit[0], PartitionSpec())
    sample: Any = jax.sharding.auto_axes(
        lambda leaves: measure(_sampled(leaves)),
        axes=explicit[0].explicit_axes,
        out_sharding=whole,
    )
    return sample(leaves)


def _sampled(leaves: list[Array]) -> list[Array]:
    """The sample of all leaves, a vector for each dtype."""
    leaves = [u for u in leaves if jnp.issubdtype(u.dtype, jnp.inexact) and u.size]
    is_whole = [leaf.ndim < 2 or leaf.size <= FEW for leaf in leaves]
    by_dtype = collections.defaultdict(list)
    for leaf, whole in zip(leaves, is_whole, strict=True):
        middle = [size // 2 for size in leaf.shape]
        parts = [leaf] if whole else [leaf[tuple(middle[:-1])]]
        if not whole and (leaf.ndim == 2 or not any(is_whole)):
            parts.append(leaf[..., middle[-1]])
        by_dtype[leaf.dtype] += [part.reshape(-1) for part in parts]
    # One vector per dtype: reducing each leaf by itself would take a kernel or two.
    return list(map(jnp.concatenate, by_dtype.values()))
