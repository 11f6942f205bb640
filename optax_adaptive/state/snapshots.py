"""Snapshots of params, or of their average, and the return to them."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax

from optax_adaptive._controller import Array
from optax_adaptive.state.controller_state import is_controller_state
from optax_adaptive.state.exportable import exportable
from optax_adaptive.state.trees import (
    in_dtypes_of,
    nodes_of,
    saturating_add,
    select,
)
from optax_adaptive.state.validation import check_one, check_same

LARGEST_GRADIENT = 1e18  # its square fits in float32
# No update brings params back from inf. So larger updates are skipped; by then the loss
# has overflowed, and a rollback is due.
LARGEST_UPDATE = 1e30
# From params of 1e10, the first return ends within their rounding error, or at 0; from
# there the second reaches the copy.
RETURNS = 2


@exportable
class SnapshotState(NamedTuple):
    """The copy of the params, and what the last update did with it."""

    snapshot_params: optax.Params
    snapshot_inner_state: Any  # () where the inner state is initialised anew instead
    is_taken: Array  # shape=(), dtype=bool: the last update took the copy
    is_restored: Array  # shape=(), dtype=bool: the last update returned to it
    rollbacks: Array  # shape=(), dtype=int32: rollbacks so far


def empty(params: optax.Params, inner_state: Any, restore_inner: bool) -> SnapshotState:
    """Buffers of the right shapes; the contents of ``params`` are not read."""
    return SnapshotState(
        snapshot_params=_zeros(params),
        snapshot_inner_state=_zeros(inner_state) if restore_inner else (),
        is_taken=jnp.zeros((), jnp.bool_),
        is_restored=jnp.zeros((), jnp.bool_),
        rollbacks=jnp.zeros((), jnp.int32),
    )


def before_update(
    snapshot: SnapshotState,
    inner_state: Any,
    reset_inner: Callable[[optax.Params], Any],
    *,
    source: optax.Params,
    is_taken: Array,
    is_broken: Array,
) -> tuple[Any, SnapshotState]:
    """Brings the inner state back after a return of the params, and takes the copy.

    The inner state comes back one update after the params, so that the optimizer
    updates what comes out of the loops here. So the compiler knows that it may update
    in place, and mostly nothing is copied at all.

    Args:
      snapshot: The copy, and whether the last update returned to it.
      inner_state: The inner state before this update.
      reset_inner: Maps params to a first inner state; used if none was copied.
      source: What to copy: params, or their average.
      is_taken: Whether to copy it, and the inner state where one is kept.
      is_broken: Whether to bring the inner state back though params did not return.

    Returns:
      The inner state to update, and the snapshot.
    """
    copied_params, copied_inner = snapshot[:2]
    keeps_inner = jax.tree.structure(inner_state) == jax.tree.structure(copied_inner)
    is_renewed = snapshot.is_restored | is_broken

    def with_rules_of(current, restored):
        check_same("the state of the optimizer inside", current, restored)
        return keep_rules(in_dtypes_of(current, restored), current)

    def exchange(carry):
        copied, current = carry
        current = select(is_renewed, with_rules_of(current, copied), current)
        return select(is_taken, in_dtypes_of(copied, current), copied), current

    def renew(current):
        return with_rules_of(current, reset_inner(copied_params))

    if keeps_inner:
        copied_inner, inner_state = in_place(
            is_renewed | is_taken, exchange, (copied_inner, inner_state)
        )
    else:
        inner_state = in_place(is_renewed, renew, inner_state)
    copied_params = in_place(
        is_taken, lambda copied: in_dtypes_of(copied, source), copied_params
    )
    return inner_state, snapshot._replace(
        snapshot_params=copied_params,
        snapshot_inner_state=copied_inner,
        is_taken=is_taken,
    )


def after_update(
    snapshot: SnapshotState,
    params: optax.Params,
    updates: optax.Updates,
    *,
    is_restored: Array,
    is_rolled_back: Array,
) -> tuple[optax.Updates, SnapshotState]:
    """Replaces the updates by those that lead to the copy, if ``is_restored``.

    Args:
      snapshot: From :func:`before_update`.
      params: Parameters before this update.
      updates: Those of the optimizer.
      is_restored: Whether to emit updates that return to the copy.
      is_rolled_back: Whether to count a rollback.

    Returns:
      Updates and snapshot.
    """

    # A select fuses with what uses the updates; a conditional would write them out.
    def back(c, p, u):
        if not jnp.issubdtype(p.dtype, jnp.number):
            return u  # it cannot be added to, and no optimizer moves it
        # At least as fine as params: a coarser update from afar misses the copy.
        dtype = jnp.promote_types(u.dtype, p.dtype)
        update = jnp.where(is_restored, (c - p).astype(dtype), u.astype(dtype))
        return bounded(update, is_restored)

    updates = jax.tree.map(back, snapshot.snapshot_params, params, updates)
    snapshot = snapshot._replace(
        is_restored=is_restored,
        rollbacks=saturating_add(snapshot.rollbacks, is_rolled_back),
    )
    return updates, snapshot


def bounded(update: Array, is_return: Array) -> Array:
    """The update, with 0 for each entry so large that no return would undo it.

    A return itself may be as large as it must be. It is NaN where params are masks of
    -inf, and such an entry becomes 0.
    """
    if not jnp.issubdtype(update.dtype, jnp.inexact):
        return update
    size = jnp.abs(update)
    finite = float(jnp.finfo(size.dtype).max)
    largest = jnp.where(is_return, finite, min(LARGEST_UPDATE, finite / 1000))
    is_kept = size <= largest.astype(size.dtype)  # NaN compares false
    return jnp.where(is_kept, update, jnp.zeros_like(update))


def keep_rules(restored: Any, current: Any) -> Any:
    """The restored inner state, with the current memory of every controller in it.

    A rule that forgot the spike would run into it again.
    """

    def kept(old, new):
        return new if is_controller_state(old) else old

    return jax.tree.map(kept, restored, current, is_leaf=is_controller_state)


def guarded(updates: optax.Updates, is_skipped: Array) -> optax.Updates:
    """Gradients, with 0 for entries that are not finite or too large to be squared.

    The sample that was looked at may have missed them, and they must not enter the
    state of the optimizer. If ``is_skipped``, all are 0. (Keeping the old state instead
    would prevent updating it in place, at every step.)
    """

    def kept(update):
        if not jnp.issubdtype(update.dtype, jnp.inexact):
            return update
        size = jnp.abs(update)
        most = min(LARGEST_GRADIENT, float(jnp.finfo(size.dtype).max))
        most = jnp.where(is_skipped, -1.0, most).astype(size.dtype)
        return jnp.where(size <= most, update, jnp.zeros_like(update))  # NaN: false

    return jax.tree.map(kept, updates)


def find_all(opt_state: Any) -> list[SnapshotState]:
    """Every snapshot in ``opt_state``."""
    return nodes_of(opt_state, SnapshotState)


def find(opt_state: Any) -> SnapshotState:
    """The one snapshot in ``opt_state``."""
    found = find_all(opt_state)
    check_one("with_rollback or autotune", len(found))
    return found[0]


def in_place(condition: Array, change: Callable[[Any], Any], tree: Any) -> Any:
    """``change(tree)`` if ``condition``, else ``tree``, which then costs nothing.

    A loop of at most one iteration: XLA carries the buffers of a loop in place, while
    the branches of a conditional may copy what they pass through.
    """

    def body(carry):
        return jnp.zeros((), jnp.bool_), change(carry[1])

    return lax.while_loop(lambda carry: carry[0], body, (condition, tree))[1]


def _zeros(tree: Any) -> Any:
    return jax.tree.map(jnp.zeros_like, tree)  # sharded alike
