"""The rate that autotune found, held: corrected, guarded, cooled down at the end."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from optax_adaptive import _alarm, _descent, _gain
from optax_adaptive._controller import Array

LOWER = 10.0**-0.5  # factor on a rate at which the loss has stopped falling
BACK_OFF = 0.5  # factor on a rate at which the loss has blown up
COOL_DOWN = 0.2  # the last part of a known horizon, over which the rate falls to 0
# What a rate far too high has done, a lower one hardly makes good. So a rate that has
# to come down within this fraction of the run starts over from the first parameters.
PROBATION = 0.125
LONGEST_PROBATION = 250  # steps: until then a blow-up costs all that was learned


class Hold(NamedTuple):
    """What the hold remembers."""

    alarm: _alarm.Alarm
    descent: _descent.Descent
    gain: _gain.Gain
    elapsed: Array  # shape=(), dtype=int32: steps since the search
    next_snapshot: Array  # shape=(), dtype=int32: in elapsed steps
    log_factor: Array  # shape=(), dtype=float32: on the rate found, natural


class Step(NamedTuple):
    """What to do with this step's update; each of shape (), bool."""

    is_taken: Array  # copy the parameters
    is_restored: Array  # go back to the copy
    is_blown_up: Array  # count a rollback


def probation(total_steps: int | None) -> int:
    """Steps of the hold in which a rate that proves too high starts over."""
    if total_steps is None:
        return LONGEST_PROBATION
    return min(int(PROBATION * total_steps), LONGEST_PROBATION)


def first_hold() -> Hold:
    """The hold before its first step, and again where it starts over."""
    return Hold(
        alarm=_alarm.first_alarm(),
        descent=_descent.first_descent(),
        gain=_gain.first_gain(),
        elapsed=jnp.zeros((), jnp.int32),
        next_snapshot=jnp.zeros((), jnp.int32),
        log_factor=jnp.zeros((), jnp.float32),
    )


def cool_down(step: Array, total_steps: int | None) -> Array:
    """The factor on the rate after so many steps, float32 in [0, 1]."""
    if total_steps is None:
        return jnp.ones((), jnp.float32)
    left = (total_steps - step).astype(jnp.float32)
    return jnp.clip(left / (COOL_DOWN * total_steps), 0.0, 1.0)


def advance(
    hold: Hold,
    value: Array,
    product: Array,
    first_loss: Array,
    noise: Array,
    *,
    probation: int,
    is_cooling: Array,
) -> tuple[Hold, Step]:
    """One step of the hold.

    Args:
      hold: Its state.
      value: float32 loss before this update.
      product: float32 from ``_gain.product``, where ``_gain.is_due``.
      first_loss: float32 loss of the first parameters.
      noise: float32 standard deviation of a value there.
      probation: From :func:`probation`.
      is_cooling: bool, whether the rate falls already.

    Returns:
      The new state, whose factor is that of this update, and what to do with it.
    """
    alarm, verdict = _alarm.watch(hold.alarm, value)
    raised = verdict.is_raised
    elapsed = hold.elapsed + 1
    is_due = elapsed >= jnp.maximum(hold.next_snapshot, probation + 1)
    is_taken = verdict.is_calm & ~raised & is_due
    # What was normal before a blow-up is not known to be normal from the copy on.
    fresh = _alarm.first_alarm()
    alarm = jax.tree.map(lambda a, b: jnp.where(raised, a, b), fresh, alarm)
    descent, lower = _descent.watch(
        hold.descent, verdict.clipped, elapsed, first_loss, noise
    )
    fresh = _descent.first_descent()
    descent = jax.tree.map(lambda a, b: jnp.where(raised, a, b), fresh, descent)
    gain, correction = _gain.watch(
        hold.gain,
        verdict.clipped,
        product,
        elapsed,
        first_loss,
        noise,
        is_sample=_gain.is_due(hold.elapsed) & (value <= verdict.clipped),
    )
    # Far too high a rate may not show early on, and one that came down did so for a
    # reason: neither is raised.
    may_rise = (elapsed > probation) & (hold.log_factor >= 0.0)
    is_barred = is_cooling | ((correction > 0.0) & ~may_rise)
    correction = jnp.where(is_barred, 0.0, correction)
    change = jnp.where(lower > 0.0, lower * math.log(LOWER), correction)
    change = jnp.where(raised, math.log(BACK_OFF), change)
    new = Hold(
        alarm=alarm,
        descent=descent,
        gain=gain,
        elapsed=elapsed,
        next_snapshot=_alarm.next_copy(elapsed, hold.next_snapshot, is_taken, raised),
        log_factor=hold.log_factor + change,
    )
    starts_over = (lower > 0.0) & (elapsed <= probation)
    fresh = first_hold()._replace(log_factor=new.log_factor)
    new = jax.tree.map(lambda a, b: jnp.where(starts_over, a, b), fresh, new)
    return new, Step(
        is_taken=is_taken,
        is_restored=raised | starts_over,
        is_blown_up=raised,
    )
