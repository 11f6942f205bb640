"""The search that opens autotune: listen, climb to the edge, then compare arms.

The climb is the learning-rate range test (Smith, 2015) with a start that is measured
in the parameters' own unit, as in DoG (Ivgi et al., 2023), so that the base learning
rate drops out. The edge alone is a poor guide, since its distance from the best rate
depends on the optimizer. So short runs below it, each annealed to 0, all from the same
parameters, decide: annealing takes away the noise that a large rate adds, and with it
most of the bias of short horizons towards small rates (Wu et al., 2018).
"""

import math
from functools import partial
from typing import NamedTuple

import jax.numpy as jnp
import optax
from jax import lax

from optax_adaptive import _history
from optax_adaptive._controller import Array
from optax_adaptive._meter import LARGEST

LISTEN, CLIMB, ARMS, FOUND = range(4)

TINY = 1e-30  # guards divisions and logarithms
LISTEN_STEPS = 12
LEAST_NOISE = 1e-3  # what a loss is taken to have at least, as a part of its size
UNKNOWN_STEPS = 800  # search as for so many where the horizon is not known
FIRST_MOVE = 1e-6  # size of an update in units of 1 + |params|: nothing moves
CLIMB_FROM, CLIMB_TO = 1e-4, 10.0  # the same, for the climb
ARM_RATIO = math.sqrt(10.0)  # between neighbouring arms
FIRST_ARM = 1.5  # in ratios below the edge
LEAST_ARMS, MOST_ARMS = 3, 8  # eight end 4 1/4 decades below the edge
# Of what is won, by which the losses of arms on one plateau differ at most: 0.02 to
# 0.04 where large rates teach a language model no more than how often letters occur;
# in 62 other settings 0.047 and more (docs/autotune_experiments.md).
PLATEAU = 0.04
# Steps of an arm in which any good rate would be seen to win something. So if no more
# than noise lies between such arms, that is a plateau too; between shorter ones it may
# be a start that is flat.
TELLING = 60
CLEARLY = 3.0  # standard errors by which an arm is better than another beyond doubt
# Best rate of a whole run over best rate of a short annealed one. It hardly depends on
# the optimizer, while the best rate over the edge ranged from 1/200 to 1/17. With
# gradients at an interpolation, which have less noise, a run can take twice as much.
LONG_OVER_SHORT, LONG_OVER_SHORT_INTERPOLATED = 0.2, 0.4
# Highest rate of the last arm, over the one that is held, at which its parameters are
# kept. What is learned at a far higher one generalises less.
KEPT = 2.0
# Second difference of the losses at the end of an arm, as a part of its descent: up to
# 0.01 of full batches, 0.04 and more of batches of 64 or less.
ROUGH = 0.015


class Budget(NamedTuple):
    """What the search may spend, in steps, fixed at construction."""

    arm_steps: int
    steps_per_decade: int
    long_over_short: float


class Search(NamedTuple):
    """What the search has seen; all logs are natural."""

    stage: Array  # shape=(), dtype=int32: LISTEN, CLIMB, ARMS or FOUND
    clock: Array  # shape=(), dtype=int32: steps in this stage, or in this arm
    losses: Array  # shape=(n,), dtype=float32: the newest finite ones, oldest first
    nonfinite: Array  # shape=(), dtype=int32: newest non-finite ones in a row
    center: Array  # shape=(), dtype=float32: median loss while nothing moves
    deviation: Array  # shape=(), dtype=float32: and its noise
    has_descended: Array  # shape=(), dtype=bool: has any rate lowered the loss?
    log_scale: Array  # shape=(), dtype=float32: of the climb's start, edge, or answer
    norm_sum: Array  # shape=(), dtype=float32: of |update| / (1 + |params|) heard
    heard: Array  # shape=(), dtype=int32: their number
    arm: Array  # shape=(), dtype=int32: which one is running
    arm_losses: Array  # shape=(MOST_ARMS,), dtype=float32: inf if it blew up or not run
    has_noise: Array  # shape=(), dtype=bool: does each batch have a loss of its own?


class Step(NamedTuple):
    """What to do with this step's update."""

    log_scale: Array  # shape=(), dtype=float32
    is_restart: Array  # shape=(), dtype=bool: go back to the first parameters instead


def budget(total_steps: int | None, interpolates: bool) -> Budget:
    """Lengths in proportion to the horizon, within what a search needs and can use."""
    if total_steps is None:
        total_steps = UNKNOWN_STEPS
    return Budget(
        arm_steps=max(min(total_steps // 40, 30), min(3 * total_steps // 200, 200)),
        steps_per_decade=min(max(total_steps // 250, 8), 16),
        long_over_short=LONG_OVER_SHORT_INTERPOLATED
        if interpolates
        else LONG_OVER_SHORT,
    )


def first_search(budget: Budget) -> Search:
    """The search before the first step."""
    zero, none = jnp.zeros((), jnp.float32), jnp.zeros((), jnp.int32)
    return Search(
        stage=none,
        clock=none,
        losses=jnp.zeros((max(LISTEN_STEPS, tail(budget)),), jnp.float32),
        nonfinite=none,
        center=zero,
        deviation=zero,
        has_descended=jnp.zeros((), jnp.bool_),
        log_scale=zero,
        norm_sum=zero,
        heard=none,
        arm=none,
        arm_losses=jnp.full((MOST_ARMS,), jnp.inf, jnp.float32),
        has_noise=jnp.ones((), jnp.bool_),
    )


def tail(budget: Budget) -> int:
    """Number of losses, at the end of an arm, that it is judged by."""
    return max(3, budget.arm_steps // 4)


def advance(search: Search, value: Array, budget: Budget) -> tuple[Search, Step]:
    """One step of the search.

    Args:
      search: Its state; ``stage`` is not FOUND.
      value: float32 loss before this update, of any sign.
      budget: From :func:`budget`.

    Returns:
      The new state, and what to do. When ``stage`` becomes FOUND, ``log_scale`` is the
      answer, and this step restarts, unless the last arm is kept as a beginning.
    """
    is_finite = jnp.abs(value) <= LARGEST  # NaN compares false
    search = search._replace(
        losses=_history.push(search.losses, value, is_finite),
        nonfinite=jnp.where(is_finite, 0, search.nonfinite + 1),
        clock=search.clock + 1,
    )
    stages = [partial(stage, budget=budget) for stage in (_listen, _climb, _run_arm)]
    return lax.switch(search.stage, stages, search)


def hear(search: Search, norm: Array) -> tuple[Search, Array]:
    """Notes the size of an update while listening.

    Args:
      search: Its state after :func:`advance`.
      norm: float32 size of this update at factor 1, in units of 1 + |params|; 0 once
        the search no longer listens.

    Returns:
      The new state, and the factor by which the update moves next to nothing.
    """
    is_heard = (norm > 0.0) & jnp.isfinite(norm)
    search = search._replace(
        norm_sum=search.norm_sum + jnp.where(is_heard, norm, 0.0),
        heard=search.heard + is_heard.astype(jnp.int32),
    )
    return search, jnp.where(is_heard, FIRST_MOVE / (norm + TINY), 0.0)


def _least_deviation(center: Array) -> Array:
    return LEAST_NOISE * jnp.abs(center) + TINY


def _listen(search: Search, *, budget: Budget) -> tuple[Search, Step]:
    """Measures the loss and its noise while nothing moves."""
    del budget
    losses = search.losses[-LISTEN_STEPS:]
    center = jnp.median(losses)
    # The largest of the deviations is left out: it may be a spike.
    deviations = jnp.sort(jnp.abs(losses - center))[:-1]
    # Mean over standard deviation is 0.8 for a normal, less without its largest.
    deviation = jnp.maximum(1.45 * deviations.mean(), _least_deviation(center))
    # A loss that is not finite tells nothing, nor does an update of 0: listen on.
    clock = search.clock - (search.nonfinite > 0).astype(jnp.int32)
    search = search._replace(clock=clock)
    is_over = (clock >= LISTEN_STEPS) & (search.heard >= LISTEN_STEPS - 1)
    heard = jnp.maximum(search.heard, 1).astype(jnp.float32)  # this step's comes later
    mean_norm = search.norm_sum / heard
    start = math.log(CLIMB_FROM) - jnp.log(jnp.maximum(mean_norm, TINY))
    heard_out = _open_stage(
        search._replace(center=center, deviation=deviation, log_scale=start), CLIMB
    )
    search = optax.tree.where(is_over, heard_out, search)
    return search, Step(search.log_scale, jnp.zeros((), jnp.bool_))


def _climb(search: Search, *, budget: Budget) -> tuple[Search, Step]:
    """Raises the rate each step until the loss is worse than where it began."""
    climbed = search.clock.astype(jnp.float32) - 1.0
    log_scale = search.log_scale + climbed * (math.log(10.0) / budget.steps_per_decade)
    is_low = jnp.median(search.losses[-5:]) < search.center - 2.0 * search.deviation
    has_descended = search.has_descended | is_low
    # Before anything has moved, noise must not end the climb.
    margin = jnp.where(has_descended, 3.0, 10.0) * search.deviation
    is_risen = jnp.min(search.losses[-3:]) > search.center + margin
    top = math.log10(CLIMB_TO / CLIMB_FROM) * budget.steps_per_decade
    is_over = is_risen | _is_lost(search) | (climbed >= top)
    search = search._replace(has_descended=has_descended)
    edge = _open_stage(search, ARMS)._replace(log_scale=log_scale)
    return optax.tree.where(is_over, edge, search), Step(log_scale, is_over)


def _run_arm(search: Search, *, budget: Budget) -> tuple[Search, Step]:
    """Trains for a while from the first parameters, annealed; then judges."""
    count = tail(budget)
    # As in listening, one spike is forgiven, which makes the mean a little noisier.
    error = 1.3 * search.deviation / math.sqrt(count)
    # Each lies below the one before, but the third above the first, if that is better
    # than the second beyond doubt.
    first, second = search.arm_losses[:2]
    is_above = jnp.isfinite(second) & (second > first + CLEARLY * error)
    # Those to come have the rate of this one: if all are lost, the last is the answer.
    below = jnp.minimum(jnp.arange(MOST_ARMS), search.arm).astype(jnp.float32)
    below = below.at[2].set(jnp.where(is_above, -1.0, below[2]))
    log_scales = search.log_scale - (FIRST_ARM + below) * math.log(ARM_RATIO)
    annealed = 1.0 - (search.clock.astype(jnp.float32) - 1.0) / budget.arm_steps
    log_scale = log_scales[search.arm] + jnp.log(annealed)

    # A high loss does not end an arm: the first steps at a good rate may overshoot.
    is_lost = _is_lost(search)
    is_over = is_lost | (search.clock == budget.arm_steps)
    loss = jnp.sort(search.losses[-count:])[:-1].mean()
    loss = jnp.where(is_lost, jnp.inf, loss)
    is_best = loss <= jnp.min(search.arm_losses)
    arm_losses = search.arm_losses.at[search.arm].set(loss)
    has_noise = jnp.where(is_best, _has_noise(search, count), search.has_noise)
    # Below a plateau there may be a better one: go on until one is worse. On it may be
    # parameters that a large rate has ruined, from which the hold would not recover.
    was_run = jnp.arange(MOST_ARMS) <= search.arm
    worst = jnp.max(arm_losses, where=was_run, initial=-jnp.inf)
    best = jnp.min(arm_losses)
    won = search.center - best
    least = error if budget.arm_steps >= TELLING else 0.0
    is_plateau = worst - best < jnp.maximum(PLATEAU * won, least)
    goes_on = ~is_above & (is_plateau | (is_best & (search.arm >= LEAST_ARMS)))
    is_last = (search.arm == MOST_ARMS - 1) | (
        (search.arm >= LEAST_ARMS - 1) & ~goes_on
    )

    # Where nothing is won beyond doubt, as from a flat start, a lower rate is no cure.
    counts = (won > CLEARLY * error) | (jnp.arange(MOST_ARMS) < LEAST_ARMS)
    answer = best_log_scale(
        jnp.where(counts, arm_losses, jnp.inf), log_scales, search.center, error
    )
    next_arm = _open_stage(search, ARMS)._replace(
        arm=search.arm + 1, arm_losses=arm_losses, has_noise=has_noise
    )
    found = _open_stage(next_arm, FOUND)._replace(
        log_scale=answer + math.log(budget.long_over_short)
    )
    judged = optax.tree.where(is_last, found, next_arm)
    is_low = log_scales[search.arm] < found.log_scale + math.log(KEPT)
    is_kept = is_last & is_low & ~is_lost
    is_restart = is_over & ~is_kept
    return optax.tree.where(is_over, judged, search), Step(log_scale, is_restart)


def _has_noise(search: Search, count: int) -> Array:
    """Whether batches differ, by the losses of the first parameters and of this arm.

    By the first alone it would not show in a network whose outputs begin at 0.
    """
    differs = search.deviation > 1.01 * _least_deviation(search.center)
    last = search.losses[-count:]
    rough = jnp.median(jnp.abs(jnp.diff(last, 2)))
    return differs | ~(rough < ROUGH * (search.center - last[-1]))


def best_log_scale(
    losses: Array, log_scales: Array, first_loss: Array, error: Array
) -> Array:
    """Where the best of several short runs lies.

    Args:
      losses: float32 of shape (n,), what they ended with; inf if lost or not run.
      log_scales: float32 of shape (n,), their log factors.
      first_loss: float32 of shape (), before each of them.
      error: float32 of shape (), of each loss.

    Returns:
      float32 of shape (): the last log factor if all are lost.
    """
    # Runs that cannot be told apart share the answer, so that noise does not decide
    # alone; 1% of the progress made counts as no difference.
    best = jnp.min(losses)
    blur = error + 0.01 * jnp.maximum(first_loss - best, 0.0) + TINY
    excess = jnp.where(jnp.isfinite(losses), (losses - best) / blur, jnp.inf)
    weights = jnp.exp(-0.5 * jnp.square(excess))
    mean = jnp.sum(weights * log_scales) / jnp.maximum(jnp.sum(weights), TINY)
    return jnp.where(jnp.isfinite(best), mean, log_scales[-1])


def _is_lost(search: Search) -> Array:
    """One non-finite loss may be the batch's fault, two in a row are the rate's."""
    return search.nonfinite >= 2


def _open_stage(search: Search, stage: int) -> Search:
    """Forgets the losses of the stage before, which would be taken for this one's."""
    return search._replace(
        stage=jnp.array(stage, jnp.int32),
        clock=jnp.zeros((), jnp.int32),
        losses=jnp.full_like(search.losses, search.center),
        nonfinite=jnp.zeros((), jnp.int32),
    )
