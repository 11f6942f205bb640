"""Helpers on pytrees: dtypes, selection, leading axes."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from optax_adaptive._controller import Array


def wide(dtype: Any) -> Any:
    """The dtype to compute in: at least float32; float32 for what is not inexact."""
    if not jnp.issubdtype(dtype, jnp.inexact):
        return np.dtype(np.float32)
    return jax.dtypes.canonicalize_dtype(np.promote_types(dtype, np.float32))


def multiply(updates: optax.Updates, lr_scale: Array) -> optax.Updates:
    """Multiplies every leaf in at least float32, and keeps its dtype."""

    def scaled(update):
        if not jnp.issubdtype(update.dtype, jnp.number):
            return update  # of a leaf that has no gradient
        # At least float32: a factor of 1e-8 vanishes in float16.
        dtype = wide(update.dtype)
        return (update.astype(dtype) * lr_scale.astype(dtype)).astype(update.dtype)

    return jax.tree.map(scaled, updates)


def is_inexact(leaf: Any) -> bool:
    """Whether it is of floats or complex numbers, not a mask, count or random key."""
    return jnp.issubdtype(leaf.dtype, jnp.inexact)


def select(condition: Array, on_true: Any, on_false: Any) -> Any:
    """Selects whole trees by one bool; ``optax.tree.where`` takes longer to trace."""

    def either(one, other):
        return other if one is other else lax.select(condition, one, other)

    return jax.tree.map(either, on_true, on_false)


def in_dtypes_of(like: Any, tree: Any) -> Any:
    """``tree``, of the structure of ``like``, in its dtypes.

    Optimizers widen their state when the first gradient of a wider dtype arrives.
    """

    def cast(target, leaf):
        is_same = jnp.result_type(leaf) == jnp.result_type(target)  # as for random keys
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


def nodes_of(tree: Any, kinds: Any, stop: Any = ()) -> list[Any]:
    """All nodes of one type or several, except inside nodes of the types ``stop``."""

    def is_kind(node):
        return isinstance(node, kinds)

    nodes = jax.tree.leaves(tree, is_leaf=lambda n: is_kind(n) or isinstance(n, stop))
    return list(filter(is_kind, nodes))


def over_leading_axes(function: Callable, count: int) -> Callable:
    """Maps ``function`` over leading axes, as pmap or vmap gives them to a state."""
    for _ in range(count):
        function = jax.vmap(function)
    return function


def as_reduction(*scalars: Any) -> tuple[Any, ...]:
    """The same float32 or bool scalars, for use over many leaves.

    XLA for CPU repeats the operations that lead to a scalar in every kernel that uses
    it, but not a reduction. So each scalar becomes the result of one.
    """
    # One more, since XLA removes a reduction over a single entry.
    padded = (*scalars, jnp.zeros((), jnp.float32))
    stacked = jnp.stack([jnp.asarray(x).astype(jnp.float32) for x in padded])
    is_own = np.eye(len(padded), dtype=np.bool_)
    reduced = jnp.max(jnp.where(is_own, stacked[None, :], -jnp.inf), axis=1)
    return tuple(reduced[i].astype(jnp.asarray(x).dtype) for i, x in enumerate(scalars))


def saturating_add(count: Array, other: Any) -> Array:
    """The sum of int32 that are not negative, without overflow; True counts as 1."""
    most = jnp.iinfo(jnp.int32).max
    return count + jnp.minimum(jnp.asarray(other).astype(jnp.int32), most - count)
