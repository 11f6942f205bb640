"""Constants and state of the search, and how long its parts are."""

import math
from typing import NamedTuple

import jax.numpy as jnp

from optax_adaptive._controller import Array, Found
from optax_adaptive.signals import spike_detector

CALIBRATE, RANGE_TEST, TRIAL, WARM_UP, DONE = range(5)

TINY = 1e-30  # guards divisions and logarithms
MOST_TRIALS = 8  # each at a rate well below that of the one before
LEAST_STEPS = 200  # of a run whose total_steps a search can use


class SearchSettings(NamedTuple):
    """Constants of a search; steps are those of the optimizer."""

    calibration_steps: int = 12
    # Losses in a row, after which the cause is sought.
    most_nonfinite: int = spike_detector.NONFINITE
    # While rates are tried, a loss counts as not finite, since a batch may be bad in
    # that way too, if it is above the first one by ``wild`` standard deviations plus
    # ``times`` its size.
    wild: float = spike_detector.WILD
    times: float = spike_detector.TIMES
    # Wild ones in a row in a range test, which should go too far.
    most_wild: int = spike_detector.MOST_FAR
    least_noise: float = 1e-3  # that a loss is taken to have, as a part of its size
    cut: float = 5.0  # times the median deviation, to which larger ones are cut
    sized_steps: int = 4  # last calibration steps, which measure how far updates move
    least_scale: float = 1e-12  # factor of the first update
    growth: float = 100.0  # of that factor at each step, until params have moved
    # How far an update moves params, in units of 1 + |params|:
    first_move: float = 1e-5  # while calibrating: next to nothing
    test_from: float = 1e-4  # at the first step of the range test
    test_to: float = 10.0  # at its last step, at the latest
    decade: int = 8  # steps in which the rate of the range test rises tenfold
    turned_steps: int = 5  # in a row with the gradient turned, which end the test
    # A gradient has turned only if it has predicted a decrease of the loss, or predicts
    # an increase, by so many standard deviations. Noise alone predicts far less. In the
    # tasks of docs/research the decrease is 1 to 900.
    clear_slope: float = 0.5
    # By what the last rate is divided where the gradient does not turn, or where the
    # loss of a trial becomes worse than at the start: so high is tried next.
    below_end: float = 3.0
    # To first order, gradients predict how much the loss decreases in the range test.
    # Where they are those of the value itself, the largest decrease predicted is about
    # ``usual_ratio`` times the largest seen: 0.16 to 1.2 times in runs of ten tasks.
    # Outside the bounds below, gradients are taken for those of another loss, as a sum.
    forget: float = 0.8  # weight of a step in the sums of both, over that of the next
    usual_ratio: float = 0.35
    least_ratio: float = 0.025
    most_ratio: float = 4.0
    # Standard deviations of a loss that the sum must have decreased by. In one of 1,408
    # runs chance made it as much.
    clear_decrease: float = 10.0
    # Steps of a trial; an eighth of ``total_steps``, if that is less. By its end the
    # rate has risen to this part of the one at which the gradient turns.
    trial: int = 60
    trial_part: float = 1 / 8
    reaches: float = 0.6
    # Rate found, over that at which the gradient turns: ``even_factor`` if the gap is
    # as large as the decrease of the loss, from the second third of the trial to the
    # last, and otherwise divided by this power of their ratio. On 16 tasks it predicts
    # the best constant rate to within a factor of 1.7 (one standard deviation).
    even_factor: float = 0.2
    power: float = 0.5
    errors: float = 1.0  # standard errors by which the decrease may be larger
    least_factor: float = 0.1  # below it, a tenth of the rate is tried
    most_factor: float = 1.0
    # Rate found, over the one that the trial has reached, above which the run goes on
    # from there. What is learned at a higher rate generalises less.
    keep_above: float = 0.8
    # Losses have noise if, while nothing moves, they have this standard deviation as a
    # part of their size (0.0015 at most on full batches), or the largest gradients
    # differ by this part (0.04 at most on full batches, 0.13 at least on others).
    # Losses alone would not show it if the outputs of a network start at 0.
    loss_noise: float = 0.003
    gradient_noise: float = 0.05


class Lengths(NamedTuple):
    """What the search may spend, in steps, fixed at construction."""

    trial: int
    part: int  # a third of a trial
    rise: int  # in which the rate rises from 0 to that at which the gradient turns


class SearchState(NamedTuple):
    """What the search has seen; all logs are natural."""

    stage: Array  # shape=(), dtype=int32: CALIBRATE to DONE
    clock: Array  # shape=(), dtype=int32: steps in this stage, or since the rate was 0
    # dtype=float32: newest finite ones, oldest first; of calibration, or of the last
    # two thirds of a trial
    losses: Array
    nonfinite: Array  # shape=(), dtype=int32: newest bad ones in a row
    # shape=(), dtype=bool: are the first parameters back, and a good loss awaited?
    is_waiting: Array
    is_acquitted: Array  # shape=(), dtype=bool: was a loss there bad as well?
    is_lost: Array  # shape=(), dtype=bool: is the rate to blame for the bad losses?
    # shape=(), dtype=bool: has the rate been suspected in this stage? The first time
    # may be a burst of bad batches that ended just as the first parameters were back
    was_suspected: Array
    has_descended: Array  # shape=(), dtype=bool: has any rate lowered the loss?
    # shape=(), dtype=float32: while calibrating, of the newest update; in the range
    # test, of its first step; then of the first step of a rise in proportion to steps
    log_scale: Array
    # shape=(), dtype=bool: was any gradient of the newest calibration step not 0?
    had_gradient: Array
    # shape=(), dtype=float32: smallest and largest size of gradients in calibration
    least_gradient: Array
    most_gradient: Array
    # shape=(), dtype=float32: sums over the newest steps of the range test, of the
    # change of the loss that gradients predict, and of the change seen
    predicted: Array
    seen: Array
    # shape=(), dtype=float32: the lowest of each so far
    least_predicted: Array
    least_seen: Array
    log_size_sum: Array  # shape=(), dtype=float32: of how far updates of scale 1 move
    sizes: Array  # shape=(), dtype=int32: how many logs are in that sum
    turned: Array  # shape=(), dtype=int32: newest steps with the gradient turned
    turned_at: Array  # shape=(), dtype=float32: log factor of the first of them
    gap_sum: Array  # shape=(), dtype=float32: over the last third of the trial
    gaps: Array  # shape=(), dtype=int32: how many are in that sum
    trials: Array  # shape=(), dtype=int32: that have ended
    restores: Array  # shape=(), dtype=bool: does this decision end a probe?
    # shape=(), dtype=bool: does this decision end the warm-up? A copy is taken then
    is_warm: Array
    is_done: Array  # shape=(), dtype=bool: then() hands over
    found: Found  # first_value and standard_deviation are known after calibration


def lengths(total_steps: int | None, settings: SearchSettings) -> Lengths:
    """The length of a trial, and of the whole rise that it is a part of."""
    trial = settings.trial
    if total_steps is not None:
        trial = min(int(settings.trial_part * total_steps), trial)
    return Lengths(trial=trial, part=trial // 3, rise=round(trial / settings.reaches))


def first_state(settings: SearchSettings) -> SearchState:
    """The search before the first step."""
    zero, none = jnp.zeros((), jnp.float32), jnp.zeros((), jnp.int32)
    no = jnp.zeros((), jnp.bool_)
    most = max(settings.calibration_steps, 2 * (settings.trial // 3), 5)
    return SearchState(
        stage=none,
        clock=none,
        losses=jnp.zeros((most,), jnp.float32),
        nonfinite=none,
        is_waiting=no,
        is_acquitted=no,
        is_lost=no,
        was_suspected=no,
        has_descended=no,
        log_scale=jnp.full((), math.log(settings.least_scale), jnp.float32),
        had_gradient=no,
        least_gradient=jnp.full((), jnp.inf, jnp.float32),
        most_gradient=zero,
        predicted=zero,
        seen=zero,
        least_predicted=zero,
        least_seen=zero,
        log_size_sum=zero,
        sizes=none,
        turned=none,
        turned_at=zero,
        gap_sum=zero,
        gaps=none,
        trials=none,
        restores=no,
        is_warm=no,
        is_done=no,
        found=Found(zero, zero, zero, jnp.ones((), jnp.bool_), zero + 1.0),
    )


def opened(state: SearchState, stage: int) -> SearchState:
    """Opens a stage, which must not take the losses of the one before for its own."""
    return state._replace(
        stage=jnp.array(stage, jnp.int32),
        clock=jnp.zeros((), jnp.int32),
        losses=jnp.full_like(state.losses, state.found.first_value),
        nonfinite=jnp.zeros((), jnp.int32),
    )


def done(state: SearchState) -> SearchState:
    """Hands over; a rate that is found, or given, is kept from then on."""
    return state._replace(
        stage=jnp.full_like(state.stage, DONE), is_done=jnp.ones_like(state.is_done)
    )


def has_risen(state: SearchState, deviations: Array | float) -> Array:
    """Whether three losses in a row are so many standard deviations above the first."""
    above = deviations * state.found.standard_deviation
    return jnp.min(state.losses[-3:]) > state.found.first_value + above


def least_standard_deviation(value: Array, settings: SearchSettings) -> Array:
    """The least standard deviation that a loss of this size is taken to have."""
    return settings.least_noise * jnp.abs(value) + TINY
