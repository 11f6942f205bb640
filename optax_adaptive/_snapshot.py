"""A copy to go back to, of params or their average, and what a loop needs to follow."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax

from optax_adaptive import _return
from optax_adaptive._controller import Array
from optax_adaptive._leaves import in_dtypes_of, over_leading_axes, wide
from optax_adaptive._validate import is_concrete


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


def before_update(
    snapshot: SnapshotState,
    get_copy: Callable[[], optax.Params],
    inner_state: Any,
    reset_inner: Any,
    *,
    is_taken: Array,
    was_left_out: Array,
    is_forgotten: bool | Array = False,
    measure: Callable[[Any], Array] = lambda inner_state: jnp.zeros((), jnp.float32),
    is_measured: bool | Array = False,
) -> tuple[Any, SnapshotState, Array]:
    """Takes the copy, and brings the inner state back after a return of the params.

    The inner state comes back one update after the params, so that all that is large
    goes through one loop here, and what comes out is what the optimizer updates. So the
    compiler knows that it may update in place, and mostly nothing is copied at all.

    Args:
      snapshot: The copy, and whether the last update went back to it.
      get_copy: Gives what to copy: params, or their average.
      inner_state: That before this update.
      reset_inner: Maps params to a first inner state; used if none was copied.
      is_taken: Copy those, and the inner state where one is kept.
      was_left_out: Was the last update? To most optimizers that is one with a gradient
        of 0, but what divides by a norm, or remembers the loss, never recovers from it.
        So an inner state that is NaN begins anew. (To select the one from before would
        keep it from being updated in place, at every step.)
      is_forgotten: Rules in the inner state go back too. Otherwise they keep their
        memory, so as to do better in the next attempt.
      measure: Maps the inner state to float32 of shape ().
      is_measured: Whether to do so.

    Returns:
      The inner state to update, the snapshot, and what was measured.
    """
    keeps_inner = jax.tree.structure(inner_state) == jax.tree.structure(
        snapshot.snapshot_inner_state
    )

    def change(copied_params, copied_inner, inner_state, measured):
        del measured
        first = in_dtypes_of(inner_state, reset_inner(copied_params))
        is_spoilt = was_left_out & _has_nan(inner_state)
        anew = _return.keep_rules(first, inner_state)
        inner_state = optax.tree.where(is_spoilt, anew, inner_state)
        restored = in_dtypes_of(inner_state, copied_inner) if keeps_inner else first
        kept = _return.keep_rules(restored, inner_state)
        restored = optax.tree.where(is_forgotten, restored, kept)
        inner_state = optax.tree.where(snapshot.is_restored, restored, inner_state)
        old = (copied_params, copied_inner)
        new = (
            get_copy(),
            in_dtypes_of(copied_inner, inner_state) if keeps_inner else (),
        )
        return *optax.tree.where(is_taken, new, old), inner_state, measure(inner_state)

    copied_params, copied_inner, inner_state, measured = _in_place(
        is_taken | snapshot.is_restored | is_measured | was_left_out,
        change,
        (*snapshot[:2], inner_state, jnp.zeros((), jnp.float32)),
    )
    snapshot = snapshot._replace(
        snapshot_params=copied_params,
        snapshot_inner_state=copied_inner,
        is_taken=is_taken,
    )
    return inner_state, snapshot, measured


def after_update(
    snapshot: SnapshotState,
    params: optax.Params,
    updates: optax.Updates,
    inner_state: Any,
    *,
    is_restored: Array,
    is_blown_up: Array,
) -> tuple[optax.Updates, Any, SnapshotState]:
    """Leads back to the copy, if ``is_restored``, or lets the update pass.

    Args:
      snapshot: From :func:`before_update`.
      params: Parameters before this update.
      updates: Should they pass.
      inner_state: That after this update.
      is_restored: Emit updates that lead back to the copy.
      is_blown_up: Count a rollback, and tell the rules in the inner state.

    Returns:
      Updates, inner state and snapshot.
    """

    # A select fuses with whatever uses the updates; a conditional would write them out.
    def back(c, p, u):
        if not jnp.issubdtype(p.dtype, jnp.number):
            return u  # nothing that is added leads back, and no optimizer moves it
        update = jnp.where(is_restored, (c - p).astype(u.dtype), u)
        return _return.bounded(update, is_restored)

    updates = jax.tree.map(back, snapshot.snapshot_params, params, updates)
    snapshot = snapshot._replace(
        is_restored=is_restored,
        rollbacks=snapshot.rollbacks + is_blown_up.astype(jnp.int32),
    )
    return updates, _return.tell_rules(inner_state, is_blown_up), snapshot


def finite_or_nan(value: Array, grads: optax.Updates) -> Array:
    """The loss, or NaN where a gradient is not finite.

    Nothing that is added leads back from NaN, so it must not reach params, nor the
    optimizer's state. To the alarm it is as bad as a loss that is not finite.
    """

    # A sum of what is finite is finite, unless it overflows.
    def total(leaf):
        return jnp.abs(jnp.sum(leaf, dtype=wide(leaf.dtype))).astype(jnp.float32)

    sums = map(total, jax.tree.leaves(grads))
    return jnp.where(jnp.isfinite(sum(sums, jnp.float32(0.0))), value, jnp.nan)


def leave_out(updates: optax.Updates, is_left_out: Array) -> optax.Updates:
    """Zeros instead of ``updates``, which may be NaN, if ``is_left_out``."""
    return jax.tree.map(lambda u: jnp.where(is_left_out, jnp.zeros_like(u), u), updates)


def select_on_rollback(opt_state: Any, healthy: Any, current: Any) -> tuple[Any, Any]:
    """Lets what lives outside params follow: batch statistics, random keys, caches.

    Call it after each update with what belongs to the params *before* that update.

    With :func:`autotune` the copy is an average, and ``healthy`` is of the parameters
    at that time: training soon corrects batch statistics, and
    :func:`recompute_batch_stats` makes exact ones.

    Args:
      opt_state: The state that update gave; it contains :func:`with_rollback` or
        :func:`autotune`, once.
      healthy: What is to be restored: what this function gave last; anything of
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
    flags = jax.tree.leaves((state.is_taken, state.is_restored))

    def select(is_taken, is_restored, healthy, current):
        healthy = optax.tree.where(is_taken, current, healthy)
        return healthy, optax.tree.where(is_restored, healthy, current)

    is_taken, is_restored = flags
    select = over_leading_axes(select, is_taken.ndim)
    return select(is_taken, is_restored, healthy, current)


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


def _has_nan(tree: Any) -> Array:
    """Whether a leaf holds NaN, bool of shape ()."""
    has_nan = jnp.zeros((), jnp.bool_)
    for leaf in jax.tree.leaves(tree):
        if jnp.issubdtype(jnp.result_type(leaf), jnp.inexact):
            has_nan |= jnp.isnan(leaf).any()
    return has_nan


def _in_place(condition: Array, change: Any, tree: Any) -> Any:
    """``change(*tree)`` if ``condition``, else ``tree``, which then costs nothing.

    A loop of at most one turn: XLA carries the buffers of a loop in place, while the
    branches of a conditional may write out what they let pass. Eager calls, which would
    compile a new loop each, decide here.
    """
    if is_concrete(condition):
        return change(*tree) if condition else tree

    def body(carry):
        return jnp.zeros((), jnp.bool_), change(*carry[1])

    return lax.while_loop(lambda carry: carry[0], body, (condition, tree))[1]


def _zeros(tree: Any) -> Any:
    return jax.tree.map(jnp.zeros_like, tree)  # sharded alike
