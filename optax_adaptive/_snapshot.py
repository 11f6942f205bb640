"""A copy of params and inner state to go back to, and what a loop needs to follow."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax

from optax_adaptive import _return
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


def take(
    snapshot: SnapshotState, params: optax.Params, inner_state: Any, is_taken: Array
) -> tuple[Any, SnapshotState]:
    """Copies ``params`` and ``inner_state``, both before an update, if ``is_taken``.

    Returns the inner state too, as it was: to update what went through the conditional
    tells the compiler that the copy comes first, and that it may update in place.
    """

    def copy(inner_state, old):
        del old
        return inner_state, (params, inner_state if keeps_inner else ())

    def keep(inner_state, old):
        return inner_state, old

    keeps_inner = _keeps_inner(snapshot, inner_state)
    old = (snapshot.snapshot_params, snapshot.snapshot_inner_state)
    inner_state, new = lax.cond(is_taken, copy, keep, inner_state, old)
    return inner_state, snapshot._replace(
        snapshot_params=new[0], snapshot_inner_state=new[1], is_taken=is_taken
    )


def restore(
    snapshot: SnapshotState,
    params: optax.Params,
    updates: optax.Updates,
    inner_state: Any,
    reset_inner: Any,
    *,
    is_restored: Array,
    is_blown_up: Array,
    is_forgotten: bool | Array = False,
) -> tuple[optax.Updates, Any, SnapshotState]:
    """Leads back to the copy, if ``is_restored``, or lets the update pass.

    Args:
      snapshot: The copy.
      params: Parameters before this update.
      updates: Should they pass.
      inner_state: That after this update, should it pass.
      reset_inner: Maps params to a first inner state; used if none was copied.
      is_restored: Emit updates that lead back to the copy.
      is_blown_up: Count a rollback.
      is_forgotten: Rules in the inner state go back too. Otherwise they keep their
        memory, so as to do better in the next attempt.

    Returns:
      Updates, inner state and snapshot.
    """
    copied_params, copied_inner = snapshot[:2]

    def back(inner_state):
        keeps_inner = _keeps_inner(snapshot, inner_state)
        restored = copied_inner if keeps_inner else reset_inner(copied_params)
        kept = _return.keep_rules(restored, inner_state, is_blown_up)
        return _select(is_forgotten, restored, kept)

    inner_state = lax.cond(is_restored, back, lambda passed: passed, inner_state)
    # A select fuses with whatever uses the updates; a conditional would write them out.
    updates = jax.tree.map(
        lambda c, p, u: jnp.where(
            is_restored, (c - p).astype(u.dtype), _return.bounded(u)
        ),
        *(copied_params, params, updates),
    )
    new = snapshot._replace(
        is_restored=is_restored,
        rollbacks=snapshot.rollbacks + is_blown_up.astype(jnp.int32),
    )
    return updates, inner_state, new


def finite_or_nan(value: Array, grads: optax.Updates) -> Array:
    """The loss, or NaN where a gradient is not finite.

    Nothing that is added leads back from NaN, so it must not reach params, nor the
    optimizer's state. To the alarm it is as bad as a loss that is not finite.
    """
    is_finite = jnp.ones((), jnp.bool_)
    for leaf in jax.tree.leaves(grads):
        is_finite &= jnp.isfinite(jnp.max(jnp.abs(leaf), initial=0))
    return jnp.where(is_finite, value, jnp.nan)


def leave_out(updates: optax.Updates, is_left_out: Array) -> optax.Updates:
    """Zeros instead of ``updates``, which may be NaN, if ``is_left_out``."""
    return jax.tree.map(lambda u: jnp.where(is_left_out, 0, u).astype(u.dtype), updates)


def _keeps_inner(snapshot: SnapshotState, inner_state: Any) -> bool:
    kept = jax.tree.structure(snapshot.snapshot_inner_state)
    return kept == jax.tree.structure(inner_state)


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


def _select(condition: bool | Array, new: Any, old: Any) -> Any:
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), new, old)


def _zeros(tree: Any) -> Any:
    return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), tree)
