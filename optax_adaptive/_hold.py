"""The rate that autotune found, held: alarms, snapshots, and a cool-down at the end."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from optax_adaptive import _alarm
from optax_adaptive._controller import Array

COOL_DOWN = 0.2  # the last part of a known horizon, over which the rate falls to 0


class Hold(NamedTuple):
    """What the hold remembers."""

    alarm: _alarm.Alarm
    elapsed: Array  # shape=(), dtype=int32: steps since the search
    next_snapshot: Array  # shape=(), dtype=int32: in elapsed steps
    halvings: Array  # shape=(), dtype=int32: of the rate, one a blow-up


class Step(NamedTuple):
    """What to do with this step's update; each of shape (), bool."""

    is_taken: Array  # copy the parameters
    is_restored: Array  # go back to the copy
    is_skipped: Array  # leave this update out
    is_blown_up: Array  # count a rollback


def first_hold() -> Hold:
    """The hold before its first step."""
    return Hold(
        alarm=_alarm.first_alarm(),
        elapsed=jnp.zeros((), jnp.int32),
        next_snapshot=jnp.array(_alarm.WARM_UP, jnp.int32),
        halvings=jnp.zeros((), jnp.int32),
    )


def factor(hold: Hold, step: Array, total_steps: int | None) -> Array:
    """The factor on the rate found, float32, for a :class:`Hold` after this step."""
    scale = jnp.exp2(-hold.halvings.astype(jnp.float32))
    if total_steps is None:
        return scale
    left = (total_steps - step).astype(jnp.float32)
    return scale * jnp.clip(left / (COOL_DOWN * total_steps), 0.0, 1.0)


def advance(hold: Hold, value: Array) -> tuple[Hold, Step]:
    """One step of the hold, given the loss before this update.

    The factor of this update is that of the state returned.
    """
    alarm, verdict = _alarm.watch(hold.alarm, value)
    raised = verdict.is_raised
    elapsed = hold.elapsed + 1
    is_taken = verdict.is_calm & ~raised & (elapsed >= hold.next_snapshot)
    # What was normal before a blow-up is not known to be normal from the copy on.
    fresh = _alarm.first_alarm()
    alarm = jax.tree.map(lambda a, b: jnp.where(raised, a, b), fresh, alarm)
    new = Hold(
        alarm=alarm,
        elapsed=elapsed,
        next_snapshot=_alarm.next_copy(elapsed, hold.next_snapshot, is_taken, raised),
        halvings=hold.halvings + raised.astype(jnp.int32),
    )
    return new, Step(
        is_taken=is_taken,
        is_restored=raised,
        is_skipped=~verdict.is_finite & ~raised,
        is_blown_up=raised,
    )
