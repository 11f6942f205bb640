"""What with_rollback remembers: all scalars, except those of the snapshot."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from optax_adaptive._controller import Array
from optax_adaptive.signals import spike_detector
from optax_adaptive.signals.window_statistics import LARGEST


class RollbackMemory(NamedTuple):
    """All scalars that ``with_rollback`` remembers, except those of the snapshot."""

    detector: spike_detector.SpikeDetector
    next_snapshot: Array  # shape=(), dtype=int32: update from which a copy may be taken
    updates_seen: Array  # shape=(), dtype=int32
    returns_left: Array  # shape=(), dtype=int32: updates until params equal the copy
    # shape=(), dtype=float32: the lowest upper bound of the level at any copy so far;
    # LARGEST while it is not known
    normal: Array
    noise: Array  # shape=(), dtype=float32: the usual one at the newest copy
    # shape=(), dtype=float32: the first value that did not belong to a probe
    first_value: Array
    small_rise: Array  # shape=(), dtype=int32: values so far in a small rise
    # shape=(), dtype=float32: a value at the copy above it is as bad as the spike
    bad_value: Array
    bad_mean: Array  # shape=(), dtype=float32: the same for a mean of values there
    is_waiting: Array  # shape=(), dtype=bool: at the copy, until the cause is known
    waited: Array  # shape=(), dtype=int32: finite values at the copy
    given_up: Array  # shape=(), dtype=int32: rises so far that stayed at the copy
    is_suspect: Array  # shape=(), dtype=bool: did the last spike come on probation?
    # shape=(), dtype=bool: the first value at the copy was as bad: not the rate's fault
    is_acquitted: Array
    is_unproven: Array  # shape=(), dtype=bool: no copy since the last spike
    # shape=(), dtype=int32: update of the last rollback or undone back-off; 0 before
    safe_since: Array
    probation_end: Array  # shape=(), dtype=int32: before it a spike is the rate's fault
    backoffs: Array  # shape=(), dtype=int32: spikes so far that were the rate's fault
    undone: Array  # shape=(), dtype=int32: how many of them no longer lower updates
    # shape=(), dtype=int32: entries of the last update that were not finite. Decay of a
    # mask of -inf makes some at each step: so only more than before are a failure.
    nonfinite: Array
    is_broken: Array  # shape=(), dtype=bool: were there more than before?

    @property
    def in_force(self) -> Array:
        """How many back-offs lower updates, shape=(), dtype=int32."""
        return self.backoffs - self.undone


def first_memory() -> RollbackMemory:
    """Before the first update."""
    none, no = jnp.zeros((), jnp.int32), jnp.zeros((), jnp.bool_)
    return RollbackMemory(
        detector=spike_detector.first_detector(),
        next_snapshot=jnp.array(spike_detector.WARM_UP, jnp.int32),
        updates_seen=none,
        returns_left=none,
        normal=jnp.full((), LARGEST, jnp.float32),
        noise=jnp.zeros((), jnp.float32),
        first_value=jnp.full((), -LARGEST, jnp.float32),
        small_rise=none,
        bad_value=jnp.full((), LARGEST, jnp.float32),
        bad_mean=jnp.full((), LARGEST, jnp.float32),
        is_waiting=no,
        waited=none,
        given_up=none,
        is_suspect=no,
        is_acquitted=no,
        is_unproven=no,
        safe_since=none,
        probation_end=none,
        backoffs=none,
        undone=none,
        nonfinite=none,
        is_broken=no,
    )


LAYOUT = jax.eval_shape(first_memory)
