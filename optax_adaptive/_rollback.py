"""with_rollback: go back to a snapshot when the loss blows up."""

from typing import Any, NamedTuple

import jax.numpy as jnp
import optax

from optax_adaptive import _alarm, _return, _snapshot
from optax_adaptive._controller import Array
from optax_adaptive._leaves import as_arrays
from optax_adaptive._scale import as_metric, multiply
from optax_adaptive._validate import check_flag, check_optimizer, check_range


class RollbackState(NamedTuple):
    """State of :func:`with_rollback`."""

    inner_state: Any
    snapshot: _snapshot.SnapshotState
    alarm: _alarm.Alarm
    next_snapshot: Array  # shape=(), dtype=int32: in updates
    updates_seen: Array  # shape=(), dtype=int32
    returns_left: Array  # shape=(), dtype=int32: until params equal the snapshot


def with_rollback(
    optimizer: optax.GradientTransformation,
    *,
    backoff: float | Array = 0.5,
    restore_inner: bool = True,
) -> optax.GradientTransformationExtraArgs:
    """Goes back to the last healthy parameters when the loss blows up.

    A blow-up is two non-finite losses in a row, or a rise that the noise of the loss
    does not explain. The updates then lead back to a snapshot of the parameters,
    ``snapshot - params``, so that any loop that applies updates goes back; the inner
    state follows in the next update, and from then on updates are multiplied by
    ``backoff`` once for each blow-up so far. A controller in the inner state keeps its
    memory and its factor, and is asked at the next update, with a window of value inf.
    A controller may say that all it does is still a trial, one of several in a row.
    Meanwhile no snapshot is taken and nothing counts as a blow-up, and at the end of
    each trial the updates lead back to the parameters from before the first.
    A single non-finite loss, or gradient, has its update left out: the optimizer sees a
    gradient of 0, and its update is not applied. Should that make its state NaN, it
    begins anew. Snapshots are taken while the loss is as good as ever, at intervals of
    a tenth of the steps so far.

    Memory: one copy of params and, with ``restore_inner``, of the inner state.

    Args:
      optimizer: Any optimizer, with its learning rate, outermost (its updates must be
        what is added to the parameters).
      backoff: Factor on all later updates after a blow-up, in (0, 1].
      restore_inner: Whether the inner state is copied and restored. Otherwise it is
        initialised anew, which saves the memory of its copy.

    Returns:
      A transformation whose ``update`` takes the keyword ``value``: the scalar loss at
      the parameters *before* the update, of the same meaning all along: one that rises
      by design looks like a blow-up. What lives outside params follows by
      :func:`select_on_rollback`. The snapshot holds a second inner state: to read one
      by ``optax.tree.get``, hand it ``state.inner_state``.

    Raises:
      ValueError: If ``backoff`` is out of range or ``restore_inner`` no bool; if
        ``init`` finds a copy to go back to inside already, or ``update`` is given no
        params or a ``value`` that is not a scalar.
      TypeError: If ``optimizer`` is none, or, in ``update``, if ``value`` is missing.

    Example:
      >>> import jax.numpy as jnp, optax, optax_adaptive
      >>> tx = optax_adaptive.with_rollback(optax.sgd(0.5))
      >>> params = jnp.array(1.0)
      >>> state = tx.init(params)
      >>> for loss in (1.0, float("inf"), float("inf")):
      ...     updates, state = tx.update(jnp.array(-1.0), state, params, value=loss)
      ...     params = optax.apply_updates(params, updates)
      >>> float(params), int(state.snapshot.rollbacks)
      (1.0, 1)
    """
    check_optimizer(optimizer)
    optimizer = optax.with_extra_args_support(optimizer)
    check_flag("restore_inner", restore_inner)
    check_range("backoff", backoff, 0.0, 1.0, open_low=True)

    def init_fn(params):
        params = as_arrays(params)
        inner_state = optimizer.init(params)
        if _snapshot.find_all(inner_state):
            raise ValueError(
                "the optimizer inside with_rollback goes back already: once is enough, "
                "and autotune does so by itself"
            )
        return RollbackState(
            inner_state=inner_state,
            snapshot=_snapshot.empty(params, inner_state, restore_inner),
            alarm=_alarm.first_alarm(),
            next_snapshot=jnp.array(_alarm.WARM_UP, jnp.int32),
            updates_seen=jnp.zeros((), jnp.int32),
            returns_left=jnp.zeros((), jnp.int32),
        )

    def update_fn(updates, state, params=None, *, value=None, **extra_args):
        if params is None:
            raise ValueError("update() needs the argument `params`")
        updates, params = as_arrays((updates, params))
        value = _snapshot.finite_or_nan(as_metric(value), updates)
        alarm, verdict = _alarm.watch(state.alarm, value)
        is_away = _return.is_away(
            state.returns_left, state.snapshot.snapshot_params, params
        )
        # A trial is meant to go too far; the rule itself says when.
        trial = _return.trial(state.inner_state)
        is_trial = trial > 0
        is_blown_up = verdict.is_raised & ~is_away & ~is_trial
        is_restored = is_blown_up | is_away
        seen = state.updates_seen
        is_due = (seen >= state.next_snapshot) & verdict.is_calm & ~is_trial
        inner_state, snapshot, _ = _snapshot.before_update(
            state.snapshot,
            lambda: params,
            state.inner_state,
            optimizer.init,
            is_taken=(is_due | (seen == 0)) & ~is_restored,
            was_left_out=(state.alarm.nonfinite > 0) | (state.returns_left > 0),
        )
        is_left_out = ~verdict.is_finite | is_away
        updates, inner_state = optimizer.update(
            _snapshot.leave_out(updates, is_left_out),
            *(inner_state, params),
            value=jnp.where(is_away, jnp.nan, value),  # of no params that count
            **extra_args,
        )
        is_restored |= is_trial & (_return.trial(inner_state) != trial)
        rollbacks = state.snapshot.rollbacks.astype(jnp.float32)
        factor = jnp.power(jnp.float32(backoff), rollbacks)
        updates, inner_state, snapshot = _snapshot.after_update(
            snapshot,
            params,
            multiply(updates, jnp.where(is_left_out, 0.0, factor)),
            inner_state,
            is_restored=is_restored,
            is_blown_up=is_blown_up,
        )
        # What was normal before a blow-up is not known to be normal from the copy on.
        alarm = optax.tree.where(is_restored, _alarm.first_alarm(), alarm)
        return updates, RollbackState(
            inner_state=inner_state,
            snapshot=snapshot,
            alarm=alarm,
            next_snapshot=_alarm.next_copy(
                seen, state.next_snapshot, is_due, is_restored
            ),
            updates_seen=seen + 1,
            returns_left=_return.left(state.returns_left, is_away, is_restored),
        )

    return optax.GradientTransformationExtraArgs(init_fn, update_fn)
