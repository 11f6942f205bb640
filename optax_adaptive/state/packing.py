"""A pytree of small arrays as one array of 32-bit words, and back.

Each leaf of an optimizer's state costs a jitted step a microsecond or more of dispatch
on every call: on small models, that is all that a controller costs. Words keep every
bit (of integers, infinities and random keys too), have no weak type, and are unaffected
by whatever casts the floating-point leaves of a state.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

Array = jax.Array


def pack(tree: Any) -> Array:
    """Lays the leaves of ``tree``, 32-bit or bool, end to end as uint32 words."""
    size = sum(jnp.size(leaf) for leaf in jax.tree.leaves(tree))
    return overwrite(jnp.zeros((size,), jnp.uint32), tree)


def overwrite(words: Array, tree: Any) -> Array:
    """Lays the leaves of ``tree`` over the first of ``words``: scalars, then arrays."""
    leaves = [_as_words(leaf) for leaf in jax.tree.leaves(tree)]
    scalars = _stack([leaf for leaf in leaves if not leaf.ndim])
    parts = [scalars, *(leaf.reshape(-1) for leaf in leaves if leaf.ndim)]
    size = sum(part.size for part in parts)
    return jnp.concatenate([part for part in (*parts, words[size:]) if part.size])


def _stack(scalars: list[Array]) -> Array:
    """As ``jnp.stack``, by selects with constant masks.

    XLA fuses selects with what computes the scalars, but compiles and runs each operand
    of a concatenation on its own. And the fewer operations, the better: on CPU, JAX
    runs a program of under a thousand in the calling thread, which saves the time of
    handing it to another.
    """
    shape = (len(scalars),)
    words = lax.full(shape, 0, jnp.uint32)
    for place, scalar in enumerate(scalars):
        is_here = np.arange(len(scalars)) == place
        words = lax.select(is_here, lax.broadcast(scalar, shape), words)
    return words


def unpack(like: Any, words: Array) -> Any:
    """Reads the first of ``words`` as a tree with the layout of ``like``."""
    leaves, treedef = jax.tree.flatten(like)
    start, unpacked = 0, list(leaves)
    for place in sorted(range(len(leaves)), key=lambda place: leaves[place].ndim > 0):
        leaf = leaves[place]
        size = math.prod(leaf.shape)
        part = lax.slice(words, (start,), (start + size,)).reshape(leaf.shape)
        is_bool = leaf.dtype == jnp.bool_
        unpacked[place] = (
            part != 0 if is_bool else lax.bitcast_convert_type(part, leaf.dtype)
        )
        start += size
    return jax.tree.unflatten(treedef, unpacked)


def switch(index: Array, branches: Sequence[Callable], like: Any, operands: Any) -> Any:
    """As ``lax.switch``, for functions from a tree to one with the layout of ``like``.

    Packed on the way in and out, since XLA compiles each scalar that enters or leaves a
    conditional by itself, and repeats for it all that leads to it.
    """
    layout = jax.eval_shape(lambda: operands)

    def on_words(branch):
        return lambda words: pack(branch(unpack(layout, words)))

    words = lax.switch(index, [on_words(branch) for branch in branches], pack(operands))
    return unpack(like, words)


def check_size(like: Any, words: Array, of: str) -> None:
    """Raises ValueError unless ``words`` are as many as ``like`` takes."""
    size = sum(leaf.size for leaf in jax.tree.leaves(like))
    if words.shape != (size,):
        raise ValueError(
            f"the state must be of {of}: its memory has the shape {words.shape}, where "
            f"this one has {(size,)}; to update several runs at once, use jax.vmap"
        )


def check_same_layout(old: Any, new: Any) -> None:
    """Raises TypeError unless a rule returned the kind of state that it was given."""

    def layout(tree):
        leaves, structure = jax.tree.flatten(tree)
        types = [f"{jnp.result_type(leaf)}{list(jnp.shape(leaf))}" for leaf in leaves]
        return structure, types

    layouts = layout(old), layout(new)
    if layouts[0] != layouts[1]:
        raise TypeError(
            "a rule's update must return a state with the structure, shapes and "
            f"dtypes of its init: init gave {layouts[0]}, update gave {layouts[1]}"
        )


def _as_words(leaf: Any) -> Array:
    leaf = jnp.asarray(leaf)
    if leaf.dtype == jnp.bool_:
        leaf = leaf.astype(jnp.uint32)
    if leaf.dtype.itemsize != 4:
        raise TypeError(
            "the state of a rule must hold 32-bit or bool arrays, but one is "
            f"{leaf.dtype}{list(leaf.shape)}"
        )
    return lax.bitcast_convert_type(leaf, jnp.uint32)
