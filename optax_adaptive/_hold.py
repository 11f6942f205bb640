"""The rate that autotune found, held: corrected and guarded."""

import math
from typing import NamedTuple

import jax.numpy as jnp
import optax

from optax_adaptive import _alarm, _correction, _noise_cost
from optax_adaptive._controller import Array

LOWEST_GOING_ON = 10.0**-0.5  # factor at once, but where the run starts over
BACK_OFF = 0.5  # factor on a rate at which the loss has blown up
# Steps in which the rate comes back after a blow-up. The optimizer's state is new then,
# and with none an Adam moves every parameter by the whole rate: one such step has taken
# a loss of 0.003 to 0.5.
RETURN_STEPS = 10
# What a rate far too high has done, a lower one hardly makes good. So one that has to
# come down so far at once, within this fraction of the run, starts over from the first
# parameters, and so does one from which the way back to them leads down. The first
# three blocks, by which that is known, take 120 steps.
FAR = 0.7  # factor: noise costs twice what it may
BACK_TO = 0.4  # highest factor where the way back leads down; it has to be below FAR
PROBATION = 0.25
# Until so many steps noise costs little even at rates that prove far too high later. So
# none is raised, and the probation, in which a blow-up costs all, is no longer.
EARLY = 250


class Hold(NamedTuple):
    """What the hold remembers."""

    alarm: _alarm.Alarm
    correction: _correction.Correction
    elapsed: Array  # shape=(), dtype=int32: steps since the search
    next_snapshot: Array  # shape=(), dtype=int32: in elapsed steps
    log_factor: Array  # shape=(), dtype=float32: on the rate found, natural
    has_blown_up: Array  # shape=(), dtype=bool: since the search, or a start over
    loss_left: Array  # shape=(), dtype=float32: where it last started over; inf before


class Step(NamedTuple):
    """What to do with this step's update; each of shape (), bool."""

    is_taken: Array  # take the copy
    is_restored: Array  # go back to the copy
    is_blown_up: Array  # count a rollback


def probation(total_steps: int | None) -> int:
    """Steps of the hold in which a rate that proves too high starts over."""
    if total_steps is None:
        return EARLY
    return min(int(PROBATION * total_steps), EARLY)


def first_hold() -> Hold:
    """The hold before its first step, and again where it starts over."""
    return Hold(
        alarm=_alarm.first_alarm(),
        correction=_correction.first_correction(),
        elapsed=jnp.zeros((), jnp.int32),
        next_snapshot=jnp.zeros((), jnp.int32),
        log_factor=jnp.zeros((), jnp.float32),
        has_blown_up=jnp.zeros((), jnp.bool_),
        loss_left=jnp.full((), jnp.inf, jnp.float32),
    )


def returned(hold: Hold) -> Array:
    """Part of the rate that this update takes, float32: 1 but after a blow-up."""
    part = (
        jnp.clip(hold.alarm.seen.astype(jnp.float32), 1.0, RETURN_STEPS) / RETURN_STEPS
    )
    return jnp.where(hold.has_blown_up, part, 1.0)


def advance(
    hold: Hold,
    value: Array,
    product: Array,
    way_back: Array,
    first_loss: Array,
    noise: Array,
    *,
    has_noise: Array,
    probation: int,
    high: float,
) -> tuple[Hold, Step]:
    """One step of the hold.

    Args:
      hold: Its state.
      value: float32 loss before this update.
      product: float32 from ``_noise_cost.measure``, where ``_noise_cost.is_due``.
      way_back: The same of the first parameters, but on probation alone.
      first_loss: float32 loss of the first parameters.
      noise: float32 standard deviation of a value there.
      has_noise: bool, whether batches differ.
      probation: From :func:`probation`.
      high: The upper bound of the correction.

    Returns:
      The new state, whose factor is that of this update, and what to do with it.
    """
    alarm, verdict = _alarm.watch(hold.alarm, value)
    raised = verdict.is_raised
    elapsed = hold.elapsed + 1
    correction, judgement = _correction.watch(
        hold.correction,
        verdict.clipped,
        product,
        way_back,
        elapsed,
        first_loss,
        noise,
        is_sample=_noise_cost.is_due(hold.elapsed) & (value <= verdict.clipped),
        high=high,
    )
    change, loss = judgement.log_factor, correction.means[-1]
    # Not again if the lower rate has not even led to a lower loss: it was no cure.
    is_astray = judgement.leads_back & (elapsed <= probation) & (loss < hold.loss_left)
    change = jnp.where(is_astray, jnp.minimum(change, math.log(BACK_TO)), change)
    # What was normal before a blow-up is not known to be normal from the copy on.
    fresh = (_alarm.first_alarm(), _correction.first_correction())
    alarm, correction = optax.tree.where(raised, fresh, (alarm, correction))
    # One that is below the rate found, or that blew up, is so for a reason.
    is_suspect = (hold.log_factor < 0.0) | hold.has_blown_up
    # Without noise a rate too high shows at once, so one too low may rise at once; but
    # near rest nothing speaks against a higher one until it blows up.
    # Noise falls along with a loss that falls by orders of magnitude, and would speak
    # against a higher rate only once all of that is undone.
    is_time = jnp.where(
        has_noise, (elapsed > EARLY) & ~judgement.is_fast, ~judgement.is_at_rest
    )
    may_rise = is_time & ~is_suspect & ~raised
    change = jnp.where((change > 0.0) & ~may_rise, 0.0, change)
    # A rate that rises may blow up: go back to before it did.
    rises = change > 0.0
    is_due = elapsed >= jnp.maximum(hold.next_snapshot, probation + 1)
    is_taken = ~raised & (rises | (verdict.is_calm & is_due))
    starts_over = ~raised & (change < math.log(FAR)) & (elapsed <= probation)
    change = jnp.where(
        starts_over, change, jnp.maximum(change, math.log(LOWEST_GOING_ON))
    )
    change = jnp.where(raised, math.log(BACK_OFF), change)
    new = Hold(
        alarm=alarm,
        correction=correction,
        elapsed=elapsed,
        next_snapshot=_alarm.next_copy(
            elapsed, hold.next_snapshot, is_taken, raised | rises
        ),
        log_factor=hold.log_factor + change,
        has_blown_up=hold.has_blown_up | raised,
        loss_left=hold.loss_left,
    )
    fresh = first_hold()._replace(log_factor=new.log_factor, loss_left=loss)
    new = optax.tree.where(starts_over, fresh, new)
    return new, Step(
        is_taken=is_taken,
        is_restored=raised | starts_over,
        is_blown_up=raised,
    )
