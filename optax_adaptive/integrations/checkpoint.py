"""graft: takes over the leaves that fit from a checkpoint of another optimizer."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


class Graft(NamedTuple):
    """The tree that :func:`graft` returns, and the paths that did not fit."""

    tree: Any  # structure of the target, with every leaf that fits
    fresh: tuple[str, ...]  # paths of the target that keep their own leaf
    unused: tuple[str, ...]  # paths of the checkpoint that fit nowhere


def graft(target: Any, restored: Any) -> Graft:
    """Fills ``target`` with the leaves of ``restored`` that lie at the same path.

    Use it to add a controller to a run that started without one, or to change it: a
    typed restore fails, since the structure differs. Restore the checkpoint without a
    target (Orbax then gives nested dicts and lists, whose keys are the names of the
    fields) and graft it onto a freshly initialised state. Of a chain that a controller
    was added to, graft the optimizer's part, ``state[0]``: what lies a level deeper is
    at another path.

    Args:
      target: A pytree of arrays with the wanted structure, shapes and dtypes.
      restored: A pytree whose paths are compared by name and index.

    Returns:
      A :class:`Graft`. A leaf of another shape or dtype does not fit, nor does what is
      no array, such as a string. Look at ``fresh`` and ``unused``: they name the leaves
      that stay as they were and those that are dropped. A leaf is put on the device of
      the target's leaf.

    Example:
      >>> import jax.numpy as jnp, optax
      >>> from optax_adaptive import integrations
      >>> target = optax.TraceState(trace={"w": jnp.zeros(2), "b": jnp.zeros(1)})
      >>> restored = {"trace": {"w": jnp.ones(2)}, "count": jnp.array(3)}
      >>> result = integrations.graft(target, restored)
      >>> result.tree.trace["w"].tolist(), result.fresh, result.unused
      ([1.0, 1.0], ('trace/b',), ('count',))
    """
    found = dict(_by_path(restored))
    taken, leaves = set(), []
    named = _by_path(target)
    for path, leaf in named:
        other = found.get(path)
        layout = _layout(leaf)
        if other is not None and layout is not None and _layout(other) == layout:
            taken.add(path)
            # To the target's devices, or a large leaf would go to one device alone.
            # What is on no device by choice goes to those of what it is used with.
            is_placed = isinstance(leaf, jax.Array) and leaf.committed
            if not hasattr(other, "dtype"):  # Python's number would be of a weak type
                other = np.asarray(other, jnp.result_type(leaf))
            if not is_placed and jnp.issubdtype(other.dtype, jnp.number):
                other = np.asarray(other)  # off the device on which it was restored
            leaf = jax.device_put(other, leaf.sharding if is_placed else None)
        leaves.append(leaf)
    tree = jax.tree.unflatten(jax.tree.structure(target), leaves)
    fresh = tuple("/".join(path) for path, _ in named if path not in taken)
    unused = tuple("/".join(path) for path in found if path not in taken)
    return Graft(tree, fresh, unused)


def _by_path(tree: Any) -> list[tuple[tuple[str, ...], Any]]:
    # Fields, keys and indices print alike, so a NamedTuple matches the dict or list
    # that it became on disk.
    return [
        (tuple(jax.tree_util.keystr((key,), simple=True) for key in path), leaf)
        for path, leaf in jax.tree.leaves_with_path(tree)
    ]


def _layout(leaf: Any) -> tuple[tuple[int, ...], np.dtype] | None:
    """Shape and dtype; None if it is not an array, as a string in a checkpoint."""
    # JAX takes a string for the name of a dtype.
    if not hasattr(leaf, "dtype") and not isinstance(leaf, (int, float, complex)):
        return None
    try:
        return jnp.shape(leaf), jnp.result_type(leaf)
    except TypeError:
        return None
