"""What with_rollback remembers of an update."""

import jax.numpy as jnp

from optax_adaptive._controller import Array
from optax_adaptive.signals import spike_detector
from optax_adaptive.signals.window_statistics import LARGEST
from optax_adaptive.state import snapshots
from optax_adaptive.state.trees import saturating_add, select
from optax_adaptive.transforms._rollback_memory import RollbackMemory
from optax_adaptive.transforms._rollback_plan import Plan


def next_memory(
    memory: RollbackMemory,
    plan: Plan,
    is_restored: Array,
    starts_return: Array,
    nonfinite: Array,
) -> RollbackMemory:
    """What is remembered of an update."""
    # What was normal before a return need not be normal after it.
    is_probe = plan.asked.probe > 0
    is_fresh = is_restored | is_probe
    seen, at_copy = memory.updates_seen, plan.at_copy
    # Only the first value at the copy counts: of many, a few may be that bad by chance.
    is_acquitted = memory.is_acquitted | (at_copy.is_bad & (memory.detector.seen == 0))
    is_over = at_copy.is_resumed & (is_acquitted | at_copy.is_given_up)
    is_raised = plan.asked.snapshot | plan.is_undone
    is_suspect = (seen < memory.probation_end) | memory.is_unproven
    spike = jnp.where(plan.signal.is_finite, plan.value, jnp.inf)
    bad_value, bad_mean = _bounds_after(spike, plan.detector, memory.normal)
    waited = memory.waited + (plan.is_waiting & plan.signal.is_finite).astype(jnp.int32)

    def at_spike(new, old):
        return jnp.where(plan.is_spike, new, old)

    return RollbackMemory(
        detector=select(
            is_fresh | at_copy.is_resumed,
            spike_detector.first_detector(),
            select(at_copy.is_bad, memory.detector, plan.detector),
        ),
        next_snapshot=spike_detector.next_snapshot(
            seen, memory.next_snapshot, plan.is_due, is_fresh | is_raised
        ),
        updates_seen=saturating_add(seen, 1),
        returns_left=jnp.where(
            starts_return,
            snapshots.RETURNS - 1,
            jnp.maximum(memory.returns_left - 1, 0),
        ),
        normal=_next_normal(memory, plan),
        noise=_next_noise(memory, plan),
        first_value=jnp.where(
            is_probe | (memory.first_value > -LARGEST) | ~plan.signal.is_finite,
            memory.first_value,
            plan.value,
        ),
        small_rise=jnp.where(plan.is_small_rise, memory.small_rise + 1, 0),
        bad_value=at_spike(bad_value, memory.bad_value),
        bad_mean=at_spike(bad_mean, memory.bad_mean),
        is_waiting=plan.is_spike
        | (memory.is_waiting & ~at_copy.is_resumed & ~starts_return & ~is_probe),
        waited=at_spike(0, waited),
        given_up=saturating_add(memory.given_up, at_copy.is_given_up),
        is_suspect=at_spike(is_suspect, memory.is_suspect),
        is_acquitted=is_acquitted & ~plan.is_spike,
        is_unproven=plan.is_spike | (memory.is_unproven & ~plan.is_taken & ~is_over),
        safe_since=jnp.where(plan.is_spike | plan.is_undone, seen, memory.safe_since),
        probation_end=_probation_end(memory, plan, is_over, is_raised),
        backoffs=saturating_add(memory.backoffs, plan.is_blown_up),
        undone=saturating_add(memory.undone, plan.is_undone | plan.is_futile),
        nonfinite=nonfinite,
        is_broken=nonfinite > memory.nonfinite,
    )


def _probation_end(
    memory: RollbackMemory, plan: Plan, is_over: Array, is_raised: Array
) -> Array:
    """The update before which a spike is the rate's fault, int32."""
    seen = memory.updates_seen
    end = jnp.where(is_over, seen, memory.probation_end)
    # A raise is on probation for as long as a rule takes to judge it.
    after_raise = saturating_add(seen, spike_detector.QUIET + seen // 4)
    end = jnp.where(is_raised, jnp.maximum(after_raise, end), end)
    # After a spike the run is on probation for as long as it went well before.
    well = jnp.maximum(seen - memory.safe_since, spike_detector.QUIET)
    return jnp.where(plan.is_spike, saturating_add(seen, well), end)


def _next_noise(memory: RollbackMemory, plan: Plan) -> Array:
    """The usual noise; at the copy, where few values tell of it, no less than known."""
    newest, known = plan.detector.noise, memory.noise
    is_new = plan.is_taken | plan.at_copy.is_given_up
    noise = jnp.where(plan.at_copy.is_resumed, jnp.maximum(newest, known), known)
    return jnp.where(is_new, newest, noise)


def _next_normal(memory: RollbackMemory, plan: Plan) -> Array:
    """The lowest bound so far, unless the data have changed."""
    seen = plan.signal.normal
    is_known = plan.is_taken | plan.at_copy.is_resumed
    normal = jnp.where(is_known, jnp.minimum(seen, memory.normal), memory.normal)
    return jnp.where(plan.at_copy.is_given_up, seen, normal)


def _bounds_after(
    spike: Array, detector: spike_detector.SpikeDetector, normal: Array
) -> tuple[Array, Array]:
    """Bounds above which a value, and a mean, at the copy is as bad as the spike.

    Both are float32, and halfway between the usual loss and the spike. The bound of a
    value is never below what noise alone may reach. If the spike is within the noise,
    the bound of a mean is halfway between the level at the copy and the newest average.
    """
    wild = detector.slow + spike_detector.CLIP * detector.standard_deviation
    halfway = (detector.slow + spike) / 2.0
    bad_value = jnp.maximum(jnp.maximum(halfway, wild), normal)
    bad_mean = jnp.where(spike > wild, halfway, (normal + detector.fast) / 2.0)
    is_finite = jnp.abs(spike) <= LARGEST
    unknown = jnp.full((), LARGEST, jnp.float32)
    return (
        jnp.where(is_finite, bad_value, unknown),
        jnp.where(is_finite, bad_mean, unknown),
    )
