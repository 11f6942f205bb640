"""What with_rollback does at an update, and what it remembers: scalars alone."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from optax_adaptive._controller import Array, Request
from optax_adaptive.signals import spike_detector
from optax_adaptive.signals.window_statistics import LARGEST
from optax_adaptive.state import snapshots
from optax_adaptive.state.trees import saturating_add, select

# Updates in which the rate comes back after a rollback. The inner state is new then, or
# that of another time, and with none an Adam moves every parameter by the whole rate:
# one such step has taken a loss of 0.003 to 0.5.
RAMP = 10
# Finite values at the copy, beside a tenth of the updates so far, after which what they
# are counts as normal.
PATIENCE = 50
HOLD = 20
# Values since a rollback after which their mean is compared with those at the copy.
FEWEST = 20


class Memory(NamedTuple):
    """All scalars that it remembers, but for those of the snapshot."""

    detector: spike_detector.SpikeDetector
    next_snapshot: Array  # shape=(), dtype=int32: in updates
    updates_seen: Array  # shape=(), dtype=int32
    returns_left: Array  # shape=(), dtype=int32: updates until params equal the copy
    normal: spike_detector.Normal  # when the copy was taken
    # shape=(), dtype=float32: a value above it is as bad as the last spike
    bad_value: Array
    bad_mean: Array
    is_unproven: Array
    is_waiting: Array  # shape=(), dtype=bool: at the copy, for a value that is normal
    waited: Array  # shape=(), dtype=int32: finite values since then
    is_suspect: Array  # shape=(), dtype=bool: did the last spike come on probation?
    is_acquitted: Array  # shape=(), dtype=bool: was a value at the copy as bad?
    safe_since: Array  # shape=(), dtype=int32: update of the last rollback; or 0
    probation_end: Array  # shape=(), dtype=int32: before it a spike is the rate's fault
    backoffs: Array  # shape=(), dtype=int32: spikes so far that were the rate's fault
    is_broken: Array  # shape=(), dtype=bool: was the last update of the optimizer NaN?


def first_memory() -> Memory:
    """Before the first update."""
    none, no = jnp.zeros((), jnp.int32), jnp.zeros((), jnp.bool_)
    return Memory(
        detector=spike_detector.first_detector(),
        next_snapshot=jnp.array(spike_detector.WARM_UP, jnp.int32),
        updates_seen=none,
        returns_left=none,
        normal=spike_detector.unknown(),
        bad_value=jnp.full((), LARGEST, jnp.float32),
        bad_mean=jnp.full((), LARGEST, jnp.float32),
        is_unproven=no,
        is_waiting=no,
        waited=none,
        is_suspect=no,
        is_acquitted=no,
        safe_since=none,
        probation_end=none,
        backoffs=none,
        is_broken=no,
    )


LAYOUT = jax.eval_shape(first_memory)


class Plan(NamedTuple):
    """What an update does, by its value and by what the rules inside ask for."""

    detector: spike_detector.SpikeDetector
    unspiked: Array  # shape=(), dtype=float32: the value, cut where it is a spike
    normal: spike_detector.Normal  # as the detector has it now
    # shape=(), dtype=float32: halfway from what is normal to the value
    bad_value: Array
    bad_mean: Array
    is_bad: Array
    is_given_up: Array  # shape=(), dtype=bool: values above that are normal from now on
    is_finite: Array  # shape=(), dtype=bool: is the value?
    is_new: Array  # shape=(), dtype=bool: is it of params that count?
    is_spike: Array  # shape=(), dtype=bool: roll back
    is_blown_up: Array  # shape=(), dtype=bool: the last spike was the rate's fault
    is_returning: Array  # shape=(), dtype=bool: it is under way to the copy
    is_held_back: Array  # shape=(), dtype=bool: it goes on waiting at the copy
    is_resumed: Array  # shape=(), dtype=bool: it has waited until now
    is_skipped: Array  # shape=(), dtype=bool: its gradients are not to be used
    is_due: Array  # shape=(), dtype=bool: is it time for a copy?
    is_taken: Array  # shape=(), dtype=bool: is one taken, for whatever reason?
    asked: Request


def make_plan(memory: Memory, value: Array, asked: Request) -> Plan:
    """The plan of an update; ``value`` is NaN where a gradient is not finite."""
    is_returning = memory.returns_left > 0
    # A probe is meant to go too far; the rule itself says when.
    is_probe = asked.probe > 0
    detector, signal = spike_detector.watch(memory.detector, value)
    seen = memory.updates_seen
    # What is wrong with a batch is wrong at the copy too, and what is wrong with a rate
    # is not. So the first values there say which of the two it was.
    is_waiting = memory.is_waiting & ~is_returning & ~is_probe
    is_normal = is_waiting & signal.is_finite & (value <= memory.bad_value)
    # One finite loss says that a burst of others is over. Whether a rise is one of the
    # data takes as many as show what is normal at the copy.
    needed = jnp.where(memory.bad_mean < LARGEST, HOLD + seen // 50, 1)
    is_given_up = is_waiting & signal.is_finite
    is_given_up &= memory.waited >= PATIENCE + seen // 10
    is_resumed = (is_normal & (detector.seen >= needed)) | is_given_up
    is_given_up |= is_resumed & (detector.slow > memory.bad_mean)
    is_held_back = is_waiting & ~is_resumed
    is_new = ~is_returning & ~is_held_back
    # The detector begins anew at the copy, where a rate too high may do so as well.
    has_risen = detector.fast > memory.normal.mean
    has_risen |= signal.lowest_level > memory.normal.level
    # Not so where it comes down again, as after a step of a state that begins anew.
    is_late = (detector.fast >= detector.slow) | (detector.seen >= spike_detector.QUIET)
    is_late |= detector.fast > memory.bad_value
    has_risen &= (detector.seen >= FEWEST) & is_late
    is_spike = signal.is_spike | has_risen
    is_spike &= is_new & ~is_waiting & ~is_probe
    is_due = (seen >= memory.next_snapshot) & signal.is_calm
    is_due &= ~is_probe & ~asked.keep_snapshot & ~is_waiting & ~has_risen
    # After a rollback, not before it is as good again as it was.
    is_due &= detector.level <= memory.normal.level
    is_taken = (is_due | (seen == 0) | asked.snapshot) & ~is_spike & is_new
    wild = detector.slow + spike_detector.CLIP * detector.standard_deviation
    halfway = (detector.slow + value) / 2.0
    bad_mean = (memory.normal.level + detector.fast) / 2.0
    bad_mean = jnp.where(value > wild, halfway, bad_mean)
    bad_value = jnp.maximum(jnp.maximum(halfway, wild), memory.normal.mean)
    return Plan(
        detector=detector,
        unspiked=signal.unspiked,
        is_spike=is_spike,
        is_blown_up=is_resumed
        & memory.is_suspect
        & ~memory.is_acquitted
        & ~is_given_up,
        is_returning=is_returning,
        is_held_back=is_held_back,
        is_resumed=is_resumed,
        is_new=is_new,
        normal=signal.normal,
        bad_value=jnp.where(signal.is_finite, bad_value, LARGEST),
        bad_mean=jnp.where(signal.is_finite, bad_mean, LARGEST),
        is_bad=is_waiting & ~is_normal,
        is_given_up=is_given_up,
        is_finite=signal.is_finite,
        is_skipped=~signal.is_usable & ~is_probe | ~signal.is_finite | ~is_new,
        is_due=is_due,
        is_taken=is_taken,
        asked=asked,
    )


def factor_of(backoff: Array, memory: Memory, plan: Plan) -> Array:
    """What updates are multiplied by, float32."""
    backoffs = memory.backoffs + plan.is_blown_up.astype(jnp.int32)
    factor = jnp.power(backoff, backoffs.astype(jnp.float32))
    seen = jnp.where(plan.is_resumed, 1, plan.detector.seen)
    ramp = jnp.clip(seen.astype(jnp.float32), 1.0, RAMP) / RAMP
    is_ramped = (memory.safe_since > 0) & (plan.asked.probe <= 0)
    return factor * jnp.where(is_ramped, ramp, 1.0)


def next_memory(
    memory: Memory,
    plan: Plan,
    is_restored: Array,
    starts_return: Array,
    is_broken: Array,
) -> Memory:
    """What is remembered of an update."""
    # What was normal before a return is not known to be normal from the copy on.
    is_probe = plan.asked.probe > 0
    is_fresh = is_restored | is_probe
    seen = memory.updates_seen
    # As long as it went well it has to go well again.
    probation = jnp.maximum(seen - memory.safe_since, spike_detector.QUIET)
    is_acquitted = memory.is_acquitted | plan.is_bad
    is_over = plan.is_resumed & (is_acquitted | plan.is_given_up)
    probation_end = jnp.where(is_over, seen, memory.probation_end)
    # A raise is on probation for as long as a rule waits until it judges it.
    after_raise = saturating_add(seen, spike_detector.QUIET + seen // 4)
    after_raise = jnp.maximum(after_raise, probation_end)
    probation_end = jnp.where(plan.asked.snapshot, after_raise, probation_end)
    lowest = jax.tree.map(jnp.minimum, plan.normal, memory.normal)
    normal = select(plan.is_taken | plan.is_resumed, lowest, memory.normal)
    normal = select(plan.is_given_up, plan.normal, normal)
    return Memory(
        detector=select(
            is_fresh | plan.is_bad | plan.is_resumed,
            spike_detector.first_detector(),
            plan.detector,
        ),
        next_snapshot=spike_detector.next_snapshot(
            *(seen, memory.next_snapshot, plan.is_due),
            is_risky=is_fresh | plan.asked.snapshot,
        ),
        updates_seen=saturating_add(seen, 1),
        returns_left=jnp.where(
            starts_return,
            snapshots.RETURNS - 1,
            jnp.maximum(memory.returns_left - 1, 0),
        ),
        normal=normal,
        bad_value=jnp.where(plan.is_spike, plan.bad_value, memory.bad_value),
        bad_mean=jnp.where(plan.is_spike, plan.bad_mean, memory.bad_mean),
        is_unproven=plan.is_spike | (memory.is_unproven & ~plan.is_taken & ~is_over),
        is_waiting=plan.is_spike
        | (memory.is_waiting & ~plan.is_resumed & ~starts_return & ~is_probe),
        waited=jnp.where(
            plan.is_spike,
            0,
            memory.waited + (plan.is_held_back & plan.is_finite).astype(jnp.int32),
        ),
        is_suspect=jnp.where(
            plan.is_spike,
            (seen < memory.probation_end) | memory.is_unproven,
            memory.is_suspect,
        ),
        is_acquitted=is_acquitted & ~plan.is_spike,
        safe_since=jnp.where(plan.is_spike, seen, memory.safe_since),
        probation_end=jnp.where(
            plan.is_spike, saturating_add(seen, probation), probation_end
        ),
        backoffs=memory.backoffs + plan.is_blown_up.astype(jnp.int32),
        is_broken=is_broken,
    )
