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


def pack(tree: Any, words: Array | None = None, read: Any = ()) -> Array:
    """Lays the leaves of ``tree``, 32-bit or bool, end to end as uint32 words.

    Args:
      tree: Scalars come first, then arrays.
      words: What ``read`` was unpacked from, if anything was.
      read: A tree. A scalar that is the same object in both trees, at the same place,
        is taken over with its word, which is less to compile.

    Returns:
      uint32 of shape (n,).
    """
    return _joined(_laid(tree, words, read))


def overwrite(words: Array, tree: Any, read: Any = ()) -> Array:
    """Lays the leaves of ``tree`` over the first of ``words``; ``read`` as in pack."""
    parts = _laid(tree, words, read)
    size = sum(part.size for part in parts)
    return _joined([*parts, words[size:]])


def _joined(parts: list[Array]) -> Array:
    # XLA compiles a concatenation of nothing too.
    return jnp.concatenate([part for part in parts if part.size] or parts)


def _laid(tree: Any, words: Array | None, read: Any) -> list[Array]:
    """The scalars as one array of words, and each array."""
    leaves = jax.tree.leaves(tree)
    scalars = [leaf for leaf in leaves if not jnp.ndim(leaf)]
    known = [leaf for leaf in jax.tree.leaves(read) if not jnp.ndim(leaf)]
    known += (len(scalars) - len(known)) * [None]
    laid = jnp.zeros((len(scalars),), jnp.uint32) if words is None else words
    laid = laid[: len(scalars)]
    # As ``jnp.stack``, by selects with constant masks: XLA fuses selects with what
    # computes the scalars, but compiles and runs each operand of a concatenation on its
    # own. And the fewer operations, the better: on CPU, JAX runs a program of under a
    # thousand in the calling thread, which saves handing it to another.
    for place, scalar in enumerate(scalars):
        if scalar is not known[place]:
            word = lax.broadcast(_as_words(scalar), laid.shape)
            laid = lax.select(np.arange(len(scalars)) == place, word, laid)
    return [laid, *(_as_words(leaf).reshape(-1) for leaf in leaves if jnp.ndim(leaf))]


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
    conditional by itself, and repeats for it all that leads to it. What comes first in
    both trees, and a branch leaves alone, is not packed again.
    """
    layout = jax.eval_shape(lambda: operands)

    def on_words(branch):
        def run(words):
            read = unpack(layout, words)
            return pack(branch(read), words, read)

        return run

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
