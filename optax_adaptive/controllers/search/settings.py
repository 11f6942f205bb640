"""Constants and state of the search, and how long its parts are."""

import math
from typing import NamedTuple

import jax.numpy as jnp

from optax_adaptive._controller import Array, Found
from optax_adaptive.signals import spike_detector

CALIBRATE, RANGE_TEST, CANDIDATES, WARM_UP, DONE = range(5)

TINY = 1e-30  # guards divisions and logarithms
MOST_CANDIDATES = 8  # eight end 4 1/4 decades below the largest stable rate
MOST_LOSSES = 50  # that are remembered: the last quarter of the longest candidate


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
    unknown_steps: int = 800  # search as for this many if total_steps is not given
    cut: float = 5.0  # times the median deviation, to which larger ones are cut
    sized_steps: int = 4  # last calibration steps, which measure how far updates move
    least_scale: float = 1e-12  # factor of the first update
    growth: float = 100.0  # of that factor at each step, until params have moved
    # How far an update moves params, in units of 1 + |params|:
    first_move: float = 1e-5  # while calibrating: next to nothing
    test_from: float = 1e-4  # at the first step of the range test
    test_to: float = 10.0  # at its last step, at the latest
    # If first outputs are worse than constant ones, a rate that ruins the network
    # lowers the loss too, and the test ends without a rise. Then the first candidate
    # runs at this many times the last rate at which losses were lowest, at most.
    above_lowest: float = 2.0
    # Standard deviations by which a loss may be above the lowest and count as low.
    as_low: float = 0.25
    ratio: float = math.sqrt(10.0)  # between neighbouring candidates
    first_candidate: float = 1.5  # in ratios below the largest stable rate
    least_candidates: int = 3
    # Part of the decrease by which a candidate has to be worse than the best to be the
    # last one. On a plateau, where large rates teach a language model no more than how
    # often letters occur, losses differ by up to 0.06; past a best rate, where steps
    # are too small to get far, mostly by 0.1 and more (docs/research).
    tie: float = 0.08
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
    clear_errors: float = 3.0  # standard errors that leave no doubt of a difference
    # The rate found is the larger of two products. The first: this factor times the
    # best candidate's rate. It hardly depends on the optimizer, while the best rate of
    # a run over the largest stable one ranged from 1/200 to 1/17.
    long_over_short: float = 0.2
    # Noise is part of why a long run needs a lower rate than a short one. Without it,
    # 0.35 to 1 are alike in the mean of six tasks, and 0.2 is too low on one.
    long_over_short_without_noise: float = 0.5
    # The second: this factor times the geometric mean of the best candidate's rate and
    # the largest stable one; 0 disables it. On nine tasks the first predicts the best
    # rate to within a factor of 3.0 (one standard deviation), the second to within 2.1,
    # and the mean of both to within 2.0: where the best candidate lies far below what
    # is stable, a run tolerates more than a fifth of its rate.
    long_over_mean: float = 0.055
    # Part of total_steps in which the rate then rises from 0; 0 for no warm-up. The
    # first parameters of a language model do not tolerate the rate that is best a
    # hundred steps later (Gilmer et al., 2021).
    warm_up: float = 0.02
    least_warm_up: int = 10  # steps
    most_warm_up: int = 1000
    unknown_warm_up: int = 100  # where total_steps is not given
    # Highest rate of the last candidate, over the rate found, at which its parameters
    # are kept. What is learned at a far higher one generalises less.
    keep_below: float = 1.5
    # Losses have noise if, while nothing moves, they have this standard deviation as a
    # part of their size (0.0015 at most on full batches), or the largest gradients
    # differ by this part (0.04 at most on full batches, 0.13 at least on others).
    # Losses alone would not show it if the outputs of a network start at 0.
    loss_noise: float = 0.003
    gradient_noise: float = 0.05


class Lengths(NamedTuple):
    """What the search may spend, in steps, fixed at construction."""

    candidate_steps: int
    decade: int  # steps per decade of the range test
    tail: int  # losses, at the end of a candidate, by which it is judged
    warm_up: int  # 0 for none


class SearchState(NamedTuple):
    """What the search has seen; all logs are natural."""

    stage: Array  # shape=(), dtype=int32: CALIBRATE to DONE
    clock: Array  # shape=(), dtype=int32: steps in this stage, or of this candidate
    losses: Array  # shape=(MOST_LOSSES,), dtype=float32: newest finite, oldest first
    nonfinite: Array  # shape=(), dtype=int32: newest bad ones in a row
    # shape=(), dtype=bool: are the first parameters back, and a good loss awaited?
    is_waiting: Array
    is_acquitted: Array  # shape=(), dtype=bool: was a loss there bad as well?
    is_lost: Array  # shape=(), dtype=bool: is the rate to blame for the bad losses?
    # shape=(), dtype=bool: has the rate been suspected in this stage? The first time
    # may be a burst of bad batches that ended just as the first parameters were back
    was_suspected: Array
    has_descended: Array  # shape=(), dtype=bool: has any rate lowered the loss?
    # shape=(), dtype=float32: lowest median of losses in the range test; inf once that
    # has ended before its last step
    lowest: Array
    lowest_at: Array  # shape=(), dtype=float32: log factor of the last one as low
    # shape=(), dtype=float32: while calibrating, of the newest update; in the range
    # test, of its first step; then of its last one, the largest stable rate
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
    # shape=(), dtype=float32: of the first, in ratios below the largest stable rate
    first_candidate: Array
    candidate: Array  # shape=(), dtype=int32: which one is running
    candidate_losses: Array  # shape=(8,), dtype=float32: inf if it diverged or not run
    restores: Array  # shape=(), dtype=bool: does this decision end a probe?
    # shape=(), dtype=bool: does this decision end the warm-up? A copy is taken then
    is_warm: Array
    is_done: Array  # shape=(), dtype=bool: then() hands over
    found: Found  # first_value and standard_deviation are known after calibration


def lengths(total_steps: int | None, settings: SearchSettings) -> Lengths:
    """Lengths in proportion to the run, within what a search needs and can use."""
    steps = settings.unknown_steps if total_steps is None else total_steps
    candidate = max(min(steps // 40, 30), min(3 * steps // 200, 200))
    return Lengths(
        candidate_steps=candidate,
        decade=min(max(steps // 250, 8), 16),
        tail=max(3, candidate // 4),
        warm_up=_warm_up_steps(total_steps, settings),
    )


def _warm_up_steps(total_steps: int | None, settings: SearchSettings) -> int:
    if settings.warm_up == 0.0:
        return 0
    if total_steps is None:
        return settings.unknown_warm_up
    steps = max(round(settings.warm_up * total_steps), settings.least_warm_up)
    return min(steps, settings.most_warm_up)


def first_state(settings: SearchSettings) -> SearchState:
    """The search before the first step."""
    zero, none = jnp.zeros((), jnp.float32), jnp.zeros((), jnp.int32)
    no = jnp.zeros((), jnp.bool_)
    return SearchState(
        stage=none,
        clock=none,
        losses=jnp.zeros((MOST_LOSSES,), jnp.float32),
        nonfinite=none,
        is_waiting=no,
        is_acquitted=no,
        is_lost=no,
        was_suspected=no,
        has_descended=no,
        lowest=zero,
        lowest_at=zero,
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
        first_candidate=zero + settings.first_candidate,
        candidate=none,
        candidate_losses=jnp.full((MOST_CANDIDATES,), jnp.inf, jnp.float32),
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


def least_standard_deviation(value: Array, settings: SearchSettings) -> Array:
    """The least standard deviation that a loss of this size is taken to have."""
    return settings.least_noise * jnp.abs(value) + TINY
