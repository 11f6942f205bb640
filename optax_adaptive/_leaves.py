"""What is asked of leaves of any kind: their dtype, and what they lie in."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def wide(dtype: Any) -> Any:
    """The dtype to compute in: at least float32, and float32 for what is no number."""
    is_inexact = jnp.issubdtype(dtype, jnp.inexact)
    return np.promote_types(dtype, np.float32) if is_inexact else np.dtype(np.float32)


def in_dtypes_of(like: Any, tree: Any) -> Any:
    """``tree``, of the structure of ``like``, in its dtypes.

    Optimizers widen their state when the first gradient of a wider dtype arrives.
    """

    def cast(target, leaf):
        is_same = jnp.result_type(leaf) == jnp.result_type(target)  # so are random keys
        return leaf if is_same else jnp.asarray(leaf, jnp.result_type(target))

    return jax.tree.map(cast, like, tree)


def as_arrays(tree: Any) -> Any:
    """Python's numbers among the leaves as arrays."""
    return jax.tree.map(
        lambda leaf: (
            jnp.asarray(leaf) if isinstance(leaf, (int, float, complex)) else leaf
        ),
        tree,
    )


def bare(state: Any) -> Any:
    """A flat state without what wraps its arrays, as ``nnx.Optimizer`` does."""
    return type(state)(*jax.tree.leaves(state))


def over_leading_axes(function: Callable, count: int) -> Callable:
    """Maps ``function`` over leading axes, that pmap or vmap gave to a state."""
    for _ in range(count):
        function = jax.vmap(function)
    return function
