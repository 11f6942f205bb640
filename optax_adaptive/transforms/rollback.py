"""with_rollback: return to a snapshot when the loss blows up."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from optax_adaptive._controller import Array, Request
from optax_adaptive.signals import spike_detector
from optax_adaptive.signals.averaging_gap import measure, product
from optax_adaptive.signals.update_size import largest_entry, largest_of_sample
from optax_adaptive.signals.window_statistics import as_metric
from optax_adaptive.state import snapshots
from optax_adaptive.state.packing import pack, unpack
from optax_adaptive.state.trees import as_arrays, select, settled
from optax_adaptive.state.validation import check_flag, check_optimizer, check_range
from optax_adaptive.transforms import _rules
from optax_adaptive.transforms._eager import compiled
from optax_adaptive.transforms._measured import Measured, handed_down
from optax_adaptive.transforms.scale_by_controller import multiply

# Updates in which the rate comes back after a rollback. The inner state is new then, or
# that of another time, and with none an Adam moves every parameter by the whole rate:
# one such step has taken a loss of 0.003 to 0.5.
RAMP = 10


class RollbackState(NamedTuple):
    """State of :func:`with_rollback`."""

    inner_state: Any
    snapshot: snapshots.SnapshotState
    rollback_memory: Array  # shape=(n,), dtype=uint32: a packed Memory


class Memory(NamedTuple):
    """All scalars that it remembers, but for those of the snapshot."""

    detector: spike_detector.SpikeDetector
    next_snapshot: Array  # shape=(), dtype=int32: in updates
    updates_seen: Array  # shape=(), dtype=int32
    returns_left: Array  # shape=(), dtype=int32: updates until params equal the copy
    is_broken: Array  # shape=(), dtype=bool: was the last update of the optimizer NaN?


def first_memory() -> Memory:
    """Before the first update."""
    return Memory(
        detector=spike_detector.first_detector(),
        next_snapshot=jnp.array(spike_detector.WARM_UP, jnp.int32),
        updates_seen=jnp.zeros((), jnp.int32),
        returns_left=jnp.zeros((), jnp.int32),
        is_broken=jnp.zeros((), jnp.bool_),
    )


LAYOUT = jax.eval_shape(first_memory)


def with_rollback(
    optimizer: optax.GradientTransformation,
    *,
    backoff: float | Array = 0.5,
    restore_inner: bool = True,
) -> optax.GradientTransformationExtraArgs:
    """Rolls back to the last healthy parameters when the loss blows up.

    A blow-up is two non-finite losses in a row, or a rise that the noise of the loss
    does not explain. The updates are then those to a snapshot of the parameters,
    ``snapshot - params``, twice, since the first from afar is rounded: so any loop that
    applies updates rolls back. The inner state follows, and from then on updates are
    multiplied by ``backoff`` once for each blow-up so far, and over the first ten by a
    ramp from 0. A controller in the inner state keeps its memory and its factor, and is
    asked at the next update, with a window of value inf.

    Snapshots are taken while the loss is as good as ever, at intervals of a tenth of
    the steps so far. Within :func:`with_averaging` they are of the average, which of a
    blow-up that has begun hardly knows. A controller may ask for one, for a return, or
    say that all that it does is a probe: then no snapshot is taken and nothing counts
    as a blow-up (see :class:`Request`).

    A single non-finite loss, or gradient, has its update skipped: the optimizer sees a
    gradient of 0, and its update is not applied. Should that make its state NaN, it
    begins anew. Of leaves of more than 4,096 entries one row is looked at; any
    other entry that is not finite, or above 1e18, counts as 0. Controllers inside see
    the loss without its spikes.

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
        ``init`` finds a snapshot inside already, or ``update`` is given no
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
        if snapshots.find_all(inner_state):
            raise ValueError(
                "the optimizer inside with_rollback rolls back already: once is "
                "enough, and autotune does so by itself"
            )
        return RollbackState(
            inner_state=inner_state,
            snapshot=snapshots.empty(params, inner_state, restore_inner),
            rollback_memory=pack(first_memory()),
        )

    def update_fn(
        updates, state, params=None, *, value=None, measured=None, **extra_args
    ):
        if params is None:
            raise ValueError("update() needs the argument `params`")
        updates, params = as_arrays((updates, params))
        measured = Measured() if measured is None else measured
        gradient_size = largest_of_sample(updates)
        value = jnp.where(jnp.isfinite(gradient_size), as_metric(value), jnp.nan)
        memory = unpack(LAYOUT, state.rollback_memory)
        plan = _plan(memory, value, _rules.requests(state.inner_state))
        inner_state, snapshot = snapshots.before_update(
            *(state.snapshot, state.inner_state, optimizer.init),
            source=params if measured.average is None else measured.average,
            is_taken=plan.is_taken,
            is_broken=memory.is_broken,
        )
        (is_skipped,) = settled(plan.is_skipped)
        measured = _measure_inside(
            measured._replace(gradient_size=gradient_size),
            *(snapshot.snapshot_params, updates, value, plan),
        )
        updates, inner_state = optimizer.update(
            snapshots.guarded(updates, is_skipped),
            *(inner_state, params),
            value=jnp.where(plan.is_incomplete, jnp.nan, value),
            **handed_down(extra_args, measured),
        )
        is_broken = ~jnp.isfinite(largest_entry(updates))
        is_returned = plan.is_spike | _rules.requests(inner_state).restore
        factor = _factor(jnp.float32(backoff), snapshot.rollbacks, plan)
        factor, is_restored = settled(
            jnp.where(is_skipped, 0.0, factor), is_returned | plan.is_incomplete
        )
        updates, snapshot = snapshots.after_update(
            *(snapshot, params, multiply(updates, factor)),
            is_restored=is_restored,
            is_rolled_back=plan.is_spike,
        )
        inner_state = _rules.notify(inner_state, plan.is_spike)
        memory = _next_memory(memory, plan, is_restored, is_returned, is_broken)
        return updates, RollbackState(inner_state, snapshot, pack(memory))

    return optax.GradientTransformationExtraArgs(init_fn, compiled(update_fn))


class Plan(NamedTuple):
    """What an update does, by its value and by what the rules inside ask for."""

    detector: spike_detector.SpikeDetector
    unspiked: Array  # shape=(), dtype=float32: the value, cut where it is a spike
    is_spike: Array  # shape=(), dtype=bool: roll back
    is_incomplete: (
        Array  # shape=(), dtype=bool: a rollback is, so its value says nothing
    )
    is_skipped: Array  # shape=(), dtype=bool: its gradients are not to be used
    is_due: Array  # shape=(), dtype=bool: is it time for a copy?
    is_taken: Array  # shape=(), dtype=bool: is one taken, for whatever reason?
    asked: Request


def _plan(memory: Memory, value: Array, asked: Request) -> Plan:
    """The plan of an update; ``value`` is NaN where a gradient is not finite."""
    is_incomplete = memory.returns_left > 0
    # A probe is meant to go too far; the rule itself says when.
    is_probe = asked.probe > 0
    detector, signal = spike_detector.watch(memory.detector, value)
    is_spike = signal.is_spike & ~is_incomplete & ~is_probe
    seen = memory.updates_seen
    is_due = (seen >= memory.next_snapshot) & signal.is_calm
    is_due &= ~is_probe & ~asked.keep_snapshot
    is_taken = (is_due | (seen == 0) | asked.snapshot) & ~is_spike & ~is_incomplete
    return Plan(
        detector=detector,
        unspiked=signal.unspiked,
        is_spike=is_spike,
        is_incomplete=is_incomplete,
        is_skipped=~signal.is_finite | is_incomplete,
        is_due=is_due,
        is_taken=is_taken,
        asked=asked,
    )


def _factor(backoff: Array, rollbacks: Array, plan: Plan) -> Array:
    """What updates are multiplied by after so many rollbacks, float32."""
    rollbacks = rollbacks.astype(jnp.float32)
    factor = jnp.power(backoff, rollbacks)
    ramp = jnp.clip(plan.detector.seen.astype(jnp.float32), 1.0, RAMP) / RAMP
    is_ramped = (rollbacks > 0.0) & (plan.asked.probe <= 0)
    return factor * jnp.where(is_ramped, ramp, 1.0)


def _next_memory(
    memory: Memory,
    plan: Plan,
    is_restored: Array,
    is_returned: Array,
    is_broken: Array,
) -> Memory:
    """What is remembered of an update."""
    # What was normal before a return is not known to be normal from the copy on.
    is_fresh = is_restored | (plan.asked.probe > 0)
    seen = memory.updates_seen
    return Memory(
        detector=select(is_fresh, spike_detector.first_detector(), plan.detector),
        next_snapshot=spike_detector.next_snapshot(
            *(seen, memory.next_snapshot, plan.is_due),
            is_risky=is_fresh | plan.asked.snapshot,
        ),
        updates_seen=jnp.asarray(optax.safe_increment(seen)),
        returns_left=jnp.where(
            is_returned,
            snapshots.RETURNS - 1,
            jnp.maximum(memory.returns_left - 1, 0),
        ),
        is_broken=is_broken,
    )


def _measure_inside(
    measured: Measured,
    copied_params: optax.Params,
    grads: optax.Updates,
    value: Array,
    plan: Plan,
) -> Measured:
    """What rules are handed: of gaps those at typical losses, and the slope as well."""
    is_new = ~plan.is_incomplete
    is_probe = plan.asked.probe > 0
    slope = jnp.zeros((), jnp.float32)
    has_gap = measured.has_gap
    if measured.average is not None and has_gap is not None:
        has_gap &= is_new & (value <= plan.unspiked)  # NaN compares false
        slope = measure(
            product,
            has_gap & plan.asked.keep_snapshot & ~is_probe,
            *(measured.average, copied_params, grads),
        )
    return measured._replace(
        average=None,
        has_gap=has_gap,
        value=jnp.where(is_probe, value, plan.unspiked),
        is_new=is_new,
        return_slope=slope,
    )
