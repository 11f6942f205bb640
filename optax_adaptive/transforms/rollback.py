"""with_rollback: return to a snapshot when the loss blows up."""

from typing import Any, NamedTuple

import jax.numpy as jnp
import optax

from optax_adaptive._controller import Array
from optax_adaptive.signals import averaging_gap
from optax_adaptive.signals.update_size import largest_of_sample, nonfinite_in_sample
from optax_adaptive.signals.window_statistics import as_metric
from optax_adaptive.state import snapshots
from optax_adaptive.state.devices import (
    AVERAGE,
    AVERAGE_GRADIENTS,
    check_same_on_devices,
    mean_over_devices,
)
from optax_adaptive.state.exportable import exportable
from optax_adaptive.state.packing import check_size, pack, unpack
from optax_adaptive.state.placement import beside
from optax_adaptive.state.tag import Tag
from optax_adaptive.state.trees import as_arrays, as_reduction, multiply
from optax_adaptive.state.validation import (
    check_flag,
    check_leaves,
    check_optimizer,
    check_params,
    check_range,
    check_state,
)
from optax_adaptive.transforms import _rules
from optax_adaptive.transforms._eager import compiled
from optax_adaptive.transforms._measured import Measured, check_no_sam, handed_down
from optax_adaptive.transforms._rollback_memory import LAYOUT, first_memory
from optax_adaptive.transforms._rollback_next import next_memory
from optax_adaptive.transforms._rollback_plan import Plan, factor_of, make_plan


@exportable
class RollbackState(NamedTuple):
    """State of :func:`with_rollback`."""

    inner_state: Any
    snapshot: snapshots.SnapshotState
    # shape=(n,), dtype=uint32: a packed RollbackMemory, under the version of its layout
    rollback_memory: dict[str, Array]


TAG = Tag("the memory of with_rollback", "rollback")


def with_rollback(
    optimizer: optax.GradientTransformation,
    *,
    backoff: float | Array = 0.5,
    restore_inner: bool = True,
    axis_name: Any = None,
) -> optax.GradientTransformationExtraArgs:
    """Rolls back to the last healthy parameters when the loss blows up.

    A spike is ten non-finite losses in a row, or a rise that the noise of the loss does
    not explain. The update then returned is ``snapshot - params``, which leads to a
    snapshot of the parameters: so any loop that applies updates rolls back. The next
    update repeats it, since the first is rounded if params are far off. The inner state
    follows, and the rate ramps up from a tenth over the next ten updates.

    A bad batch is not a bad rate, so losses at the snapshot are looked at before
    updates resume. If the first is as bad as the spike, the batches are to blame, and
    updates stay skipped until a loss is good again, or for 50 finite losses plus a
    tenth of the steps so far, at most. After a rise it takes 20 losses, and one more
    for each 50 steps so far: if their mean is as bad, the data have changed, and that
    level is normal from now on. Otherwise the run resumes at the same rate, *on
    probation* for as long as it went well before, and until the loss is as good as it
    was. Another spike meanwhile is a blow-up: the rate is to blame. From then on
    updates are multiplied by ``backoff`` once more, but by no less than 0.001 in all,
    until the run has gone well for as long as before. Controllers in the inner state,
    which keep their memory and factor, are asked at once, with a window of value inf.

    Snapshots are taken while the loss is as good as ever, at intervals of a tenth of
    the steps so far; after a rollback, not until the loss is as good as it was. Within
    :func:`with_averaging` they are of the average, which a blow-up in progress has
    hardly changed yet. A controller may ask for a snapshot or for a return, that small
    rises may pass by themselves, or declare that it probes: then no snapshot is taken
    and nothing counts as a spike (see :class:`Request`).

    An update is skipped if its loss or its gradients are not finite, or if its loss is
    above the usual one by 100 standard deviations plus ten times its size (up to three
    in a row): the optimizer sees a gradient of 0, and its update is not applied. If
    more entries than before of its state, or of updates of at most 4,096 entries, are
    then not finite, its state returns to the copy, or is initialised anew. Of leaves
    with two axes or more, and more than 4,096 entries, the middle row is looked at, and
    of matrices the middle column; any other gradient that is not finite, or above 1e18,
    counts as 0, and so does an update above 1e30. Controllers inside see the loss
    without its spikes.

    Memory: one copy of params and, with ``restore_inner``, of the inner state.

    Args:
      optimizer: Any optimizer, with its learning rate. Use the result outermost: its
        updates must be what is added to the parameters.
      backoff: Factor on updates after each blow-up, in (0, 1].
      restore_inner: Whether the inner state is copied and restored. Otherwise it is
        initialised anew, which saves the memory of its copy.
      axis_name: Axis, or tuple of axes, over which to average ``value``, also for the
        controllers inside, in ``jax.pmap`` or ``jax.shard_map``. Average gradients
        yourself, and keep params whole on each device (docs/devices.md). Under
        ``jax.jit``, None is right.

    Returns:
      A transformation whose ``update`` takes the keyword ``value``: the scalar loss at
      the parameters *before* the update, the one whose gradients are passed. It must
      mean the same all along: a loss that rises by design looks like a blow-up.
      :func:`select_on_rollback` rolls back what
      lives outside params. The snapshot may hold a second inner state: to read the
      first by ``optax.tree.get``, pass ``state.inner_state``.

    Raises:
      ValueError: If ``backoff`` is out of range or ``restore_inner`` is not a bool; if
        ``init`` finds a snapshot or SAM inside; or if ``update`` is given no params,
        updates of another structure or other shapes than theirs, a state of another
        optimizer or release, a ``value`` that is not a scalar, or a ``value`` or
        gradients that vary over a mesh axis.
      TypeError: If ``optimizer`` is not a gradient transformation; in ``init``, if a
        leaf of the params is not an array; in ``update``, if ``value`` is missing or
        not one real number.

    Example:
      >>> import jax.numpy as jnp, optax, optax_adaptive
      >>> tx = optax_adaptive.with_rollback(optax.sgd(0.5))
      >>> params = jnp.array(1.0)
      >>> state = tx.init(params)
      >>> for loss in [1.0] + 12 * [float("inf")]:
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
        check_leaves(params)
        inner_state = optimizer.init(params)
        check_no_sam(inner_state)
        if snapshots.find_all(inner_state):
            raise ValueError(
                "the optimizer inside with_rollback rolls back already: once is "
                "enough, and autotune does so by itself"
            )
        state = RollbackState(
            inner_state=inner_state,
            snapshot=snapshots.empty(params, inner_state, restore_inner),
            rollback_memory=TAG.wrap(pack(first_memory())),
        )
        return beside(params, state)

    def update_fn(
        updates, state, params=None, *, value=None, measured=None, **extra_args
    ):
        check_state("with_rollback", state, RollbackState)
        check_params(updates, params)
        updates, params = as_arrays((updates, params))
        measured = Measured() if measured is None else measured
        gradient_size = largest_of_sample(updates)
        value = mean_over_devices(as_metric(value), axis_name)
        words = TAG.unwrap(state.rollback_memory)
        check_size(LAYOUT, words, "with_rollback")
        check_same_on_devices("`value`", value, words, AVERAGE)
        check_same_on_devices("gradients", updates, words, AVERAGE_GRADIENTS)
        value = jnp.where(jnp.isfinite(gradient_size), value, jnp.nan)
        memory = unpack(LAYOUT, words)
        asked, factor = _rules.requests(state.inner_state), jnp.float32(backoff)
        plan = make_plan(memory, value, asked, factor)
        inner_state, snapshot = snapshots.before_update(
            state.snapshot,
            state.inner_state,
            optimizer.init,
            source=params if measured.average is None else measured.average,
            is_taken=plan.is_taken,
            is_broken=memory.is_broken,
        )
        (is_skipped,) = as_reduction(plan.is_skipped)
        measured = _measure_inside(
            measured._replace(gradient_size=gradient_size),
            snapshot.snapshot_params,
            updates,
            value,
            plan,
        )
        updates, inner_state = optimizer.update(
            snapshots.guarded(updates, is_skipped),
            inner_state,
            params,
            # Rules go by ``measured``. What is not ours keeps a NaN for ever.
            value=jnp.where(
                plan.is_new & plan.signal.is_finite, value, plan.detector.slow
            ),
            **handed_down(extra_args, measured),
        )
        nonfinite = nonfinite_in_sample(updates, inner_state)
        starts_return = plan.is_spike | _rules.requests(inner_state).restore
        factor = jnp.where(is_skipped, 0.0, factor_of(factor, memory, plan))
        factor, is_restored = as_reduction(factor, starts_return | plan.is_returning)
        updates, snapshot = snapshots.after_update(
            snapshot,
            params,
            multiply(updates, factor),
            is_restored=is_restored,
            is_rolled_back=plan.is_spike,
        )
        inner_state = _rules.notify(
            inner_state, plan.is_spike | plan.is_blown_up, plan.is_blown_up
        )
        new = next_memory(memory, plan, is_restored, starts_return, nonfinite)
        words = pack(new, words, memory)
        return updates, RollbackState(inner_state, snapshot, TAG.wrap(words))

    return optax.GradientTransformationExtraArgs(init_fn, compiled(update_fn))


def _measure_inside(
    measured: Measured,
    copied_params: optax.Params,
    grads: optax.Updates,
    value: Array,
    plan: Plan,
) -> Measured:
    """What rules are handed: gaps at losses that are no spikes only, and the slope."""
    is_probe = plan.asked.probe > 0
    slope = jnp.zeros((), jnp.float32)
    has_gap = measured.has_gap
    if measured.average is not None and has_gap is not None:
        has_gap &= plan.is_new & (value <= plan.signal.unspiked)  # NaN compares false
        slope = averaging_gap.compute_if(
            averaging_gap.gap,
            has_gap & plan.is_kept & ~is_probe,
            measured.average,
            copied_params,
            grads,
        )
    return measured._replace(
        average=None,
        has_gap=has_gap,
        value=jnp.where(is_probe, value, plan.signal.unspiked),
        is_new=plan.is_new,
        return_slope=slope,
    )
