"""A copy of params and inner state to go back to, and what a loop needs to follow."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax

from optax_adaptive._controller import Array


class SnapshotState(NamedTuple):
    """The copy, and what the last update did with it."""

    snapshot_params: optax.Params
    snapshot_inner_state: Any  # () where the inner state is initialised anew instead
    is_taken: Array  # shape=(), dtype=bool: the last update took the copy
    is_restored: Array  # shape=(), dtype=bool: the last update went back to it
    rollbacks: Array  # shape=(), dtype=int32: blow-ups so far


def empty(params: optax.Params, inner_state: Any, restore_inner: bool) -> SnapshotState:
    """Buffers of the right shapes; the contents of ``params`` are not read."""
    return SnapshotState(
        snapshot_params=_zeros(params),
        snapshot_inner_state=_zeros(inner_state) if restore_inner else (),
        is_taken=jnp.zeros((), jnp.bool_),
        is_restored=jnp.zeros((), jnp.bool_),
        rollbacks=jnp.zeros((), jnp.int32),
    )


def apply(
    snapshot: SnapshotState,
    params: optax.Params,
    old_inner_state: Any,
    proposed: tuple[optax.Updates, Any],
    reset_inner: Any,
    *,
    is_taken: Array,
    is_restored: Array,
    is_skipped: Array,
    is_blown_up: Array,
) -> tuple[optax.Updates, Any, SnapshotState]:
    """Takes the copy, goes back to it, leaves this update out, or lets it pass.

    Args:
      snapshot: The copy so far.
      params: Parameters before this update.
      old_inner_state: The optimizer's state before this update.
      proposed: Updates and inner state, should they pass.
      reset_inner: Maps params to a first inner state; used if none was copied.
      is_taken: Copy ``params`` and ``old_inner_state``. With ``is_restored`` as well,
        the older copy is restored and kept.
      is_restored: Emit updates that lead back to the copy.
      is_skipped: Emit zero updates and keep ``old_inner_state``.
      is_blown_up: Count a rollback.

    Returns:
      Updates, inner state and snapshot.
    """
    keeps_inner = jax.tree.structure(snapshot.snapshot_inner_state) == (
        jax.tree.structure(old_inner_state)
    )

    def rarely(updates, inner_state, copy):
        taken = (params, old_inner_state if keeps_inner else ())
        copy = _select(is_taken & ~is_restored, taken, copy)
        copied_params, copied_inner = copy
        back = jax.tree.map(
            lambda c, p, u: (c - p).astype(u.dtype), *(copied_params, params, updates)
        )
        if not keeps_inner:
            copied_inner = reset_inner(copied_params)
        zeros = optax.tree.zeros_like(updates)
        updates = _select(is_skipped, zeros, updates)
        inner_state = _select(is_skipped, old_inner_state, inner_state)
        updates = _select(is_restored, back, updates)
        inner_state = _select(is_restored, copied_inner, inner_state)
        return updates, inner_state, copy

    def usually(updates, inner_state, copy):
        return updates, inner_state, copy

    copy = (snapshot.snapshot_params, snapshot.snapshot_inner_state)
    updates, inner_state, copy = lax.cond(
        is_taken | is_restored | is_skipped, rarely, usually, *proposed, copy
    )
    new = SnapshotState(
        *copy,
        is_taken=is_taken & ~is_restored,
        is_restored=is_restored,
        rollbacks=snapshot.rollbacks + is_blown_up.astype(jnp.int32),
    )
    return updates, inner_state, new


def select_on_rollback(opt_state: Any, healthy: Any, current: Any) -> tuple[Any, Any]:
    """Lets what lives outside params follow: batch statistics, random keys, caches.

    Call it after each update with what belongs to the params *before* that update.

    Args:
      opt_state: The state that update gave; it contains :func:`with_rollback` or
        :func:`autotune`, once.
      healthy: What belongs to the snapshot: what this function gave last; anything of
        the right structure before the first update.
      current: A pytree of the same structure, shapes and dtypes.

    Returns:
      ``(healthy, current)``: after a snapshot both are ``current``, after a rollback
      both are ``healthy``, and else they are as they were. It works inside ``jax.jit``.

    Raises:
      ValueError: If there is no snapshot in the state, or more than one.

    Example:
      >>> import jax.numpy as jnp, optax, optax_adaptive
      >>> tx = optax_adaptive.with_rollback(optax.sgd(0.1))
      >>> params = jnp.array(1.0)
      >>> state, healthy, seen = tx.init(params), 0, 0
      >>> for step, loss in enumerate([1.0, 0.9, float("nan"), float("nan")]):
      ...     updates, state = tx.update(params, state, params, value=loss)
      ...     healthy, seen = optax_adaptive.select_on_rollback(state, healthy, step)
      >>> int(seen)
      0
    """
    state = find(opt_state)
    healthy = _select(state.is_taken, current, healthy)
    return healthy, _select(state.is_restored, healthy, current)


def find_all(opt_state: Any) -> list[SnapshotState]:
    """Every snapshot in ``opt_state``."""

    def is_snapshot(node):
        return isinstance(node, SnapshotState)

    leaves = jax.tree.leaves(opt_state, is_leaf=is_snapshot)
    return [leaf for leaf in leaves if is_snapshot(leaf)]


def find(opt_state: Any) -> SnapshotState:
    """The one snapshot in ``opt_state``."""
    found = find_all(opt_state)
    if len(found) != 1:
        raise ValueError(
            f"expected one with_rollback or autotune in this optimizer state, found "
            f"{len(found)}"
        )
    return found[0]


def _select(condition: Array, new: Any, old: Any) -> Any:
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), new, old)


def _zeros(tree: Any) -> Any:
    return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), tree)
