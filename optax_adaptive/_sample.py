"""A part of each leaf that stands for the whole, so that nothing large is read.

Small leaves whole, as biases are; of larger ones the row in the middle. What is not
finite spreads by backpropagation over all columns of a gradient, or shows in a bias.
"""

import collections
from typing import Any

import jax
import jax.numpy as jnp

from optax_adaptive._controller import Array

FEW = 2**12  # entries of a leaf that is looked at whole


def largest(tree: Any) -> Array:
    """The largest |entry| of a sample, float32 of shape (); or what is not finite."""
    by_dtype = collections.defaultdict(list)
    for leaf in jax.tree.leaves(tree):
        if not (jnp.issubdtype(leaf.dtype, jnp.inexact) and leaf.size):
            continue
        part = leaf
        if leaf.ndim > 1 and leaf.size > FEW:
            part = leaf[tuple(size // 2 for size in leaf.shape[:-1])]
        by_dtype[leaf.dtype].append(part.reshape(-1))
    # One vector a dtype: to reduce each leaf by itself would be a kernel or two.
    vectors = map(jnp.concatenate, by_dtype.values())
    peaks = [jnp.max(jnp.abs(vector)).astype(jnp.float32) for vector in vectors]
    return jnp.max(jnp.stack(peaks)) if peaks else jnp.zeros((), jnp.float32)
