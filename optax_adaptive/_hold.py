"""The rate that autotune found, held: alarms, snapshots, trials of a higher rate.

A trial compares the rate in force with twice that rate, over the same number of steps
from the same parameters, by the loss that both reach. Such short horizons favour small
rates (Wu et al., 2018): so what still wins by going faster is surely too slow now, and
a lost trial proves nothing. That is why trials here only ever raise.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from optax_adaptive import _alarm
from optax_adaptive._controller import Array

STEADY, LOW, HIGH = range(3)  # no trial; its first half; its second

COOL_DOWN = 0.2  # the last part of a known horizon, over which the rate falls to 0
FIRST_TRIAL = 8  # in lengths of an arm of the search
TRIALS_UNTIL = 0.4  # of a known horizon
TRIAL = 0.25  # length of either half of a trial, as a fraction of the elapsed steps
# Standard errors. One, since a tie would already speak for the higher rate.
WINNING = 1.0


class Hold(NamedTuple):
    """What the hold remembers."""

    alarm: _alarm.Alarm
    elapsed: Array  # shape=(), dtype=int32: steps since the search
    next_snapshot: Array  # shape=(), dtype=int32: in elapsed steps
    doublings: Array  # shape=(), dtype=int32: trials won less blow-ups
    stage: Array  # shape=(), dtype=int32: STEADY, LOW or HIGH
    clock: Array  # shape=(), dtype=int32: steps in this half of the trial
    length: Array  # shape=(), dtype=int32: steps of either half
    next_trial: Array  # shape=(), dtype=int32: in elapsed steps
    is_settled: Array  # shape=(), dtype=bool: no more trials, one was lost
    low_loss: Array  # shape=(), dtype=float32: end of the first half
    total: Array  # shape=(), dtype=float32: sum of the last losses of this half
    last: Array  # shape=(), dtype=float32: the loss before
    noise: Array  # shape=(), dtype=float32: variance of a loss, summed over both tails


class Step(NamedTuple):
    """What to do with this step's update; each of shape (), bool."""

    is_taken: Array  # copy the parameters
    is_restored: Array  # go back to the copy
    is_skipped: Array  # leave this update out
    is_blown_up: Array  # count a rollback
    is_counted: Array  # let the average see the new parameters


def first_hold(arm_steps: int) -> Hold:
    """The hold before its first step."""
    zero, none = jnp.zeros((), jnp.float32), jnp.zeros((), jnp.int32)
    return Hold(
        alarm=_alarm.first_alarm(),
        elapsed=none,
        next_snapshot=jnp.array(_alarm.WARM_UP, jnp.int32),
        doublings=none,
        stage=none,
        clock=none,
        length=none,
        next_trial=jnp.array(FIRST_TRIAL * arm_steps, jnp.int32),
        is_settled=jnp.zeros((), jnp.bool_),
        low_loss=zero,
        total=zero,
        last=zero,
        noise=zero,
    )


def factor(hold: Hold, step: Array, total_steps: int | None) -> Array:
    """The factor on the rate found, float32, for a :class:`Hold` after this step."""
    doublings = hold.doublings + (hold.stage == HIGH).astype(jnp.int32)
    scale = jnp.exp2(doublings.astype(jnp.float32))
    if total_steps is None:
        return scale
    left = (total_steps - step).astype(jnp.float32)
    return scale * jnp.clip(left / (COOL_DOWN * total_steps), 0.0, 1.0)


def advance(
    hold: Hold, value: Array, step: Array, total_steps: int | None
) -> tuple[Hold, Step]:
    """One step of the hold, given the loss before this update.

    The factor of this update is that of the state returned.
    """
    hold = hold._replace(elapsed=hold.elapsed + 1)
    return jax.lax.cond(
        hold.stage == STEADY,
        lambda: _steady(hold, value, step, total_steps),
        lambda: _trial(hold, value),
    )


def _steady(
    hold: Hold, value: Array, step: Array, total_steps: int | None
) -> tuple[Hold, Step]:
    alarm, verdict = _alarm.watch(hold.alarm, value)
    raised, calm = verdict.is_raised, verdict.is_calm
    starts_trial = calm & (hold.elapsed >= hold.next_trial) & ~hold.is_settled
    if total_steps is not None:
        starts_trial &= step < int(TRIALS_UNTIL * total_steps)
    elapsed = hold.elapsed.astype(jnp.float32)
    is_due = hold.elapsed >= hold.next_snapshot
    # Copies at growing intervals cost next to nothing, and lose a tenth at most.
    next_snapshot = hold.elapsed + hold.elapsed // 10 + 10
    # What was normal before a blow-up is not known to be normal from the copy on.
    alarm = _where(raised, _alarm.first_alarm(), alarm)
    new = hold._replace(
        alarm=alarm,
        next_snapshot=jnp.where(is_due & calm, next_snapshot, hold.next_snapshot),
        doublings=hold.doublings - raised.astype(jnp.int32),
        is_settled=hold.is_settled | raised,  # the edge has been seen
        length=jnp.where(
            starts_trial, (TRIAL * elapsed).astype(jnp.int32), hold.length
        ),
        stage=jnp.where(starts_trial, LOW, STEADY),
    )
    opened = _open_half(new, LOW)._replace(noise=jnp.zeros((), jnp.float32))
    new = _where(starts_trial, opened, new)
    return new, Step(
        is_taken=starts_trial | (is_due & calm & ~raised),
        is_restored=raised,
        is_skipped=~verdict.is_finite & ~raised,
        is_blown_up=raised,
        is_counted=~starts_trial,
    )


def _trial(hold: Hold, value: Array) -> tuple[Hold, Step]:
    is_low = hold.stage == LOW
    clock = hold.clock + 1
    deviation = jnp.sqrt(hold.alarm.variance)
    is_finite = jnp.isfinite(value)
    ceiling = hold.alarm.slow + _alarm.CLIP * deviation
    clipped = jnp.where(is_finite, jnp.minimum(value, ceiling), ceiling)
    count = jnp.maximum(hold.length // 2, 3)
    is_tail = clock > hold.length - count
    total = hold.total + jnp.where(is_tail, clipped, 0.0)
    # Differences, since the loss falls meanwhile; that is not its noise.
    noise = hold.noise + jnp.where(is_tail, 0.5 * jnp.square(clipped - hold.last), 0.0)
    samples = count.astype(jnp.float32)
    loss = total / samples
    is_over = clock >= hold.length

    # Both means have variance noise / (2 samples) / samples; the floor is rounding's.
    error = jnp.sqrt(noise) / samples + 1e-6 * jnp.abs(loss)
    is_gain = hold.low_loss - loss > WINNING * error
    # A high half that ends near the ceiling, or in NaN, has blown up.
    is_lost = ~is_finite | (loss > hold.low_loss + 0.5 * _alarm.CLIP * deviation)
    ends_low, ends_high = is_over & is_low, ~is_low & (is_over | ~is_finite)
    is_won = ends_high & is_gain & is_finite
    goes_back = ends_low | (ends_high & is_lost)

    new = hold._replace(clock=clock, total=total, last=clipped, noise=noise)
    after_low = _open_half(new, HIGH)._replace(low_loss=loss)
    after_high = _open_half(new, STEADY)._replace(
        doublings=hold.doublings + is_won.astype(jnp.int32),
        # Those that win follow each other, once the alarm has settled.
        next_trial=hold.elapsed + _alarm.WARM_UP,
        is_settled=~is_won,
    )
    # Half the progress was thrown away, and the noise of another rate is new.
    after_high = after_high._replace(alarm=_alarm.first_alarm())
    new = _where(ends_low, after_low, _where(ends_high, after_high, new))
    no = jnp.zeros((), jnp.bool_)
    return new, Step(
        is_taken=no,
        is_restored=goes_back,
        is_skipped=~is_finite,
        is_blown_up=no,
        is_counted=no,  # it may still be undone
    )


def _open_half(hold: Hold, stage: int) -> Hold:
    return hold._replace(
        stage=jnp.array(stage, jnp.int32),
        clock=jnp.zeros((), jnp.int32),
        total=jnp.zeros((), jnp.float32),
    )


def _where(condition: Array, new: NamedTuple, old: NamedTuple):
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), new, old)
