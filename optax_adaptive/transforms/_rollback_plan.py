"""What with_rollback does at an update, by the scalars that it remembers."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from optax_adaptive._controller import Array, Request
from optax_adaptive.signals import spike_detector
from optax_adaptive.signals.window_statistics import LARGEST
from optax_adaptive.transforms._rollback_memory import RollbackMemory

# Updates over which the rate ramps up after a rollback. The inner state is then new, or
# older. A new Adam moves every parameter by the whole rate at its first step: one such
# step has taken a loss from 0.003 to 0.5.
RAMP = 10
# After this many finite values at the copy, plus a tenth of the updates so far, the
# values there count as normal.
PATIENCE = 50
FEWEST_AT_COPY = 20  # values in a mean that is compared with another
MOST_WIDENED = 4  # times that what proved to be no rise doubles what counts as one
LEAST_FACTOR = 1e-3  # to which ``backoff`` may lower updates: no rate is a cure below


class AtCopy(NamedTuple):
    """What a value at the copy says about the cause of the spike."""

    is_bad: Array  # shape=(), dtype=bool: the value is as bad as the spike
    is_given_up: Array  # shape=(), dtype=bool: the data have changed, for good
    is_resumed: Array  # shape=(), dtype=bool: the cause is known, and updates go on


class Plan(NamedTuple):
    """What an update does, by its value and by what the rules inside ask for."""

    value: Array  # shape=(), dtype=float32: NaN where a gradient is not finite
    detector: spike_detector.SpikeDetector
    signal: spike_detector.Signal
    is_spike: Array  # shape=(), dtype=bool: roll back
    is_small_rise: Array  # shape=(), dtype=bool: a rise that may pass by itself
    is_blown_up: Array  # shape=(), dtype=bool: the last spike was the rate's fault
    is_undone: Array  # shape=(), dtype=bool: is one back-off undone?
    is_futile: Array  # shape=(), dtype=bool: blown up, but updates are at their lowest
    is_returning: Array  # shape=(), dtype=bool: params are on their way to the copy
    is_waiting: Array  # shape=(), dtype=bool: params are at the copy, and stay there
    is_new: Array  # shape=(), dtype=bool: neither of the two, so the value counts
    at_copy: AtCopy  # all False where params do not wait at the copy
    is_skipped: Array  # shape=(), dtype=bool: its gradients are not to be used
    is_due: Array  # shape=(), dtype=bool: is it time for a copy?
    is_taken: Array  # shape=(), dtype=bool: is a copy taken, for whatever reason?
    is_kept: Array  # shape=(), dtype=bool: does a rule ask to keep the present copy?
    asked: Request


def judge_at_copy(
    memory: RollbackMemory,
    detector: spike_detector.SpikeDetector,
    value: Array,
    is_finite: Array,
) -> AtCopy:
    """Judges a value at the copy, with ``detector`` begun anew there.

    A bad batch is bad at the copy too; what a bad rate has done is undone there. After
    losses that were not finite, one finite loss says that their burst is over. After a
    rise, the mean of as many losses as would show it says whether the data have
    changed.
    """
    seen = memory.updates_seen
    is_bad = ~(is_finite & (value <= memory.bad_value))
    needed = jnp.where(memory.bad_mean < LARGEST, FEWEST_AT_COPY + seen // 50, 1)
    is_late = is_finite & (memory.waited >= PATIENCE + seen // 10)
    is_known = ~is_bad & (detector.seen >= needed)
    is_changed = is_known & (detector.slow > memory.bad_mean)
    return AtCopy(is_bad, is_late | is_changed, is_late | is_known)


def width_of(memory: RollbackMemory) -> Array:
    """How many times as far off a mean may be as its values alone would have it.

    Twice for each rise that turned out to be none, float32. Such are the losses of data
    that are not shuffled: neighbours are alike, and the noise of a mean is larger.
    """
    return jnp.exp2(jnp.minimum(memory.given_up, MOST_WIDENED).astype(jnp.float32))


def has_risen(
    memory: RollbackMemory, detector: spike_detector.SpikeDetector, lowest_level: Array
) -> Array:
    """Whether the loss is worse than when the copy was taken.

    The detector begins anew at the copy, and would take whatever follows for normal,
    even the harm of too high a rate. So the loss is compared with what was normal when
    the copy was taken. A newly initialised optimizer may do some harm too, but repairs
    it: so for ``QUIET`` values a loss that is decreasing again does not count.
    """
    newest, usual = spike_detector.newest_noise(detector), memory.noise
    most = spike_detector.NOISIER * usual
    # Losses that were all alike do not say how large noise may be.
    noise = jnp.clip(newest, usual, jnp.where(usual > 0.0, most, jnp.inf))
    rise = spike_detector.MEAN_RISE * width_of(memory) * noise
    is_worse = detector.fast > memory.normal + rise
    is_worse |= lowest_level > memory.normal
    is_lasting = detector.fast >= detector.slow
    is_lasting |= detector.fast > memory.bad_value
    is_lasting |= detector.seen >= spike_detector.QUIET
    return is_worse & is_lasting & (detector.seen >= FEWEST_AT_COPY)


def _is_small(
    memory: RollbackMemory,
    detector: spike_detector.SpikeDetector,
    value: Array,
    part: Array | np.float32,
) -> Array:
    """Whether a value is above the usual one by less than a part of the decrease."""
    usual = jnp.minimum(memory.normal, detector.slow)
    decrease = jnp.maximum(memory.first_value - usual, 0.0)
    return (part > 0.0) & (value <= usual + part * decrease)  # NaN compares false


def _is_proven(memory: RollbackMemory) -> Array:
    """Whether the run has gone well for as long as before the last spike or raise."""
    seen = memory.updates_seen
    is_over = (seen >= memory.probation_end) & ~memory.is_unproven
    return is_over & (seen - memory.safe_since >= memory.safe_since)


def make_plan(
    memory: RollbackMemory, value: Array, asked: Request, backoff: Array
) -> Plan:
    """The plan of an update; ``value`` is NaN where a gradient is not finite."""
    is_returning = memory.returns_left > 0
    # A probe is meant to go too far; the rule itself says when it has.
    is_probe = asked.probe > 0
    is_waiting = memory.is_waiting & ~is_returning & ~is_probe
    is_new = ~is_returning & ~is_waiting
    detector, signal = spike_detector.watch(memory.detector, value, width_of(memory))
    at_copy = judge_at_copy(memory, detector, value, signal.is_finite)
    is_risen = has_risen(memory, detector, signal.lowest_level)
    is_rise = (signal.is_spike | is_risen) & is_new & ~is_probe
    is_small_rise = is_rise & _is_small(memory, detector, value, asked.small_rise)
    is_spike = is_rise & ~(is_small_rise & (memory.small_rise < spike_detector.QUIET))
    is_due = (memory.updates_seen >= memory.next_snapshot) & signal.is_calm
    # After a rollback, not until the loss is as good as it was.
    is_due &= detector.level <= memory.normal
    # Until it is known what is normal, a rise from the first step on looks like noise.
    is_due &= (detector.fast <= detector.slow) | (memory.normal < LARGEST)
    is_kept = memory.updates_seen < asked.keep_until
    is_due &= is_new & ~is_probe & ~is_kept & ~is_risen
    is_taken = is_due | (memory.updates_seen == 0) | asked.snapshot
    is_bad = ~signal.is_usable & ~is_probe | ~signal.is_finite
    is_bad |= value > asked.skip_above
    blames_rate = memory.is_suspect & ~memory.is_acquitted & ~at_copy.is_given_up
    is_blown_up = is_waiting & at_copy.is_resumed & blames_rate
    is_undone = (backoff < 1.0) & (memory.in_force > 0)
    is_undone &= _is_proven(memory) & is_new & ~is_spike
    is_lowest = jnp.power(backoff, memory.in_force.astype(jnp.float32)) <= LEAST_FACTOR
    return Plan(
        value=value,
        detector=detector,
        signal=signal,
        is_spike=is_spike,
        is_small_rise=is_small_rise,
        is_blown_up=is_blown_up,
        is_undone=is_undone,
        is_futile=is_blown_up & (is_lowest | (backoff >= 1.0)),
        is_returning=is_returning,
        is_waiting=is_waiting,
        is_new=is_new,
        at_copy=AtCopy(*(is_waiting & said for said in at_copy)),
        is_skipped=is_bad | ~is_new,
        is_due=is_due,
        is_taken=is_taken & ~is_spike & is_new,
        is_kept=is_kept,
        asked=asked,
    )


def factor_of(backoff: Array, memory: RollbackMemory, plan: Plan) -> Array:
    """What updates are multiplied by, float32."""
    backoffs = memory.in_force + plan.is_blown_up.astype(jnp.int32)
    factor = jnp.power(backoff, backoffs.astype(jnp.float32))
    factor = jnp.maximum(factor, LEAST_FACTOR)
    ramp = jnp.clip(plan.detector.seen.astype(jnp.float32), 1.0, RAMP) / RAMP
    is_ramped = (memory.safe_since > 0) & (plan.asked.probe <= 0)
    return factor * jnp.where(is_ramped, ramp, 1.0)
