"""What candidates say: where the answer lies."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optax_adaptive import controllers
from optax_adaptive.controllers.search import SearchSettings
from optax_adaptive.controllers.search.candidates import (
    best_log_scale,
    run_candidate,
)
from optax_adaptive.controllers.search.settings import (
    CANDIDATES,
    MOST_CANDIDATES,
    first_state,
    lengths,
)
from optax_adaptive.controllers.tuned import INTERPOLATED
from tests.helpers.observations import observation

LOG_SCALES = jnp.array([0.0, -1.0, -2.0])


SETTINGS = SearchSettings()
# The rate found is a fifth of the best candidate's, and holds at once.
A_FIFTH = SearchSettings(long_over_mean=0.0, warm_up=0.0)


@pytest.mark.parametrize(
    ("losses", "expected"),
    [
        ([2.0, 1.0, 2.0], -1.0),  # better beyond doubt
        ([1.0, 1.0, 2.0], -0.5),  # noise does not tell two of them apart
        ([1.0, 1.0, 1.0], -1.0),
        ([np.inf, 1.0, np.inf], -1.0),  # those that diverged count for nothing
        ([np.inf, np.inf, np.inf], -2.0),  # the lowest
    ],
)
def test_what_noise_does_not_tell_apart_shares_the_answer(losses, expected):
    losses = jnp.array(losses, jnp.float32)
    answer = best_log_scale(losses, LOG_SCALES, jnp.float32(3.0), jnp.float32(0.01))
    assert float(answer) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("losses", "candidates", "best"),
    [
        ([1.6, 1.2, 1.8], 3, 1),
        ([1.6, 1.2, 1.34, 1.8], 4, 1.1),  # not worse by enough: one may lie below
        ([3.4, 1.2, 1.34, 0.9, 1.6], 5, 3),  # as here
        ([1.2, 1.6, 1.8, 1.9], 4, 0),  # the fourth was above the first
        ([1.2, 1.6, 1.8, 0.9], 4, -1),
        ([2.5, 2.2, 1.8, 2.0], 4, 2),  # on as long as it gets better
        ([2.5, 2.2, 1.8, 1.7, 1.5, 1.7], 6, 4),
        ([2.5, 2.0, 2.01, 1.7, 1.9], 5, 3),  # a tie is no end
        ([1.2, 1.6, 0.7, 1.4], 4, 2),  # the second alone is worse than the first
        ([2.02, 2.0, 2.01, 1.6, 1.2, 1.5], 6, 4),  # a plateau, and what lies below it
        ([2.02, 2.0, 2.01, 2.5], 4, 1),  # a flat optimum
        ([2.0] * 8, 8, 3.5),
        ([3.0] * 8, 8, 1),  # nothing was gained
        ([np.inf, 2.0, 2.0, 2.5], 4, 1.5),  # the first diverged
        ([np.inf] * 8, 8, 7),  # all did: the lowest that was run
    ],
)
def test_candidates_on_a_plateau_go_on_below_it(losses, candidates, best):
    assert compared(losses, 2000) == (candidates, pytest.approx(best, abs=0.05))


@pytest.mark.parametrize(
    ("losses", "candidates", "best"),
    [
        ([3.0] * 8, 8, 1),  # nothing was gained, by any: the first three count alone
        ([3.02, 3.01, 3.0, 1.6, 1.2, 1.5], 6, 4),  # nor was here, by the first three
        ([2.94, 2.96, 2.95, 1.6, 1.2, 1.5], 6, 4),  # noise is all that lies between
        ([2.5, 2.49, 2.51, 2.5, 2.7], 5, 1.5),
    ],
)
def test_where_candidates_are_long_enough_so_do_those_that_noise_tells_not_apart(
    losses, candidates, best
):
    assert compared(losses, 6000) == (candidates, pytest.approx(best, abs=0.05))


@pytest.mark.parametrize(
    ("losses", "lowest", "candidates", "best"),
    [
        ([1.6, 1.2, 1.38], 1.4, 3, 1),  # the best is lower than the range test came
        ([1.6, 1.2, 1.38, 0.9, 1.6], 1.3, 5, 3),  # it is not: the second may be ruined
        ([1.6, 1.2, 1.4, 1.4, 1.4, 1.45], 1.3, 6, 1.07),  # until one is worse for sure
        ([1.6, 1.2, 1.45], 1.3, 3, 1),  # as here
        ([1.8, 1.6, 1.2, 1.38], 1.3, 4, 2),  # the third is at a lower rate
        ([1.6, 1.2, 1.38], np.inf, 3, 1),  # the range test ended with a rise
    ],
)
def test_the_best_of_high_rates_may_have_ruined_the_network(
    losses, lowest, candidates, best
):
    answer = compared(losses, 2000, lowest)
    assert answer == (candidates, pytest.approx(best, abs=0.05))


def compared(losses, total_steps, lowest=3.0):
    """Number of candidates with these losses, and how far below the first the best."""
    state, _ = after_candidates(losses, total_steps, A_FIFTH, lowest)
    # The first is 10^0.75 below the largest stable rate, 1, and
    # each 10^0.5 below the one before.
    below = np.log10(0.2) - state.found.log_scale / np.log(10) - 0.75
    return int(state.candidate), float(below / 0.5)


def calibrated(state, standard_deviation):
    """The state once the first loss, 3, is known, and its standard deviation."""
    found = state.found._replace(
        first_value=jnp.float32(3.0),
        standard_deviation=jnp.float32(standard_deviation),
    )
    return state._replace(found=found)


@functools.cache
def searching(total_steps, settings):
    """The rule, and its functions compiled."""
    rule = controllers.search(total_steps, settings)
    return rule, jax.jit(rule.update), jax.jit(rule.request)


def after_candidates(losses, total_steps, settings=SETTINGS, lowest=3.0):
    """The state after candidates with these losses, and what is asked for then.

    ``lowest`` is the lowest loss of the range test before them.
    """
    rule, update, request = searching(total_steps, settings)
    state = calibrated(rule.init(), 0.1)._replace(
        stage=jnp.int32(CANDIDATES),
        lowest=jnp.float32(lowest),
        log_scale=jnp.float32(0.0),  # of the largest stable rate
    )
    for _ in range(MOST_CANDIDATES):
        number, asked = int(state.candidate), request(state)
        assert asked.probe == CANDIDATES + 1 + number and not state.restores
        while state.stage == CANDIDATES and state.candidate == number:
            # One that is not finite restores the first parameters, whose loss is.
            value = 3.0 if state.is_waiting else losses[number]
            log_scale, state = update(observation(value=value), state)
        if state.stage > CANDIDATES:
            break
        assert request(state).restore
        state = state._replace(restores=jnp.array(False))
    assert bool(state.is_done) == (settings.warm_up == 0.0)
    if state.is_done:
        assert log_scale == state.found.log_scale
    return state, request(state)


@pytest.mark.parametrize(
    ("losses", "settings", "is_restored"),
    [
        ([1.6, 1.2, 1.8], SETTINGS, False),  # 1.4 times the rate that is found
        ([1.6, 1.2, 1.8], A_FIFTH, True),  # 1.6 times it
        ([1.6, 1.2, 1.8], INTERPOLATED, False),  # 0.8 times it
        ([2.5, 2.2, 1.8, 2.0], SETTINGS, False),  # 0.8 times it
        ([1.2, 1.6, 1.8, 1.9], SETTINGS, True),  # it was above the others
        ([1.6, 1.2, np.inf], SETTINGS, True),  # it diverged
    ],
)
def test_the_run_goes_on_from_a_last_candidate_whose_rate_was_as_low(
    losses, settings, is_restored
):
    _, asked = after_candidates(losses, 2000, settings)
    assert bool(asked.restore) == is_restored
    warms_up = settings.warm_up > 0.0
    assert asked.probe == (-1 if warms_up else 0)
    assert asked.accumulation_size == (1 if warms_up else 0)


@pytest.mark.parametrize(
    ("losses", "best"),
    [
        ([1.2, 1.6, 1.8, 0.9], -1),
        ([1.6, 1.2, 1.8], 1),
        ([2.5, 2.2, 1.8, 2.0], 2),
        ([2.5, 2.2, 1.8, 1.7, 1.5, 1.7], 4),
    ],
)
def test_far_below_what_is_stable_a_larger_part_of_the_best_candidate_is_found(
    losses, best
):
    """It grows by √10 where that is ten times lower."""
    state, _ = after_candidates(losses, 2000)
    below = 0.75 + 0.5 * best  # decades below the largest stable rate
    part = max(0.2, 0.055 * 10 ** (below / 2))
    found = float(jnp.exp(state.found.log_scale))
    assert found == pytest.approx(part * 10**-below, rel=0.05)


def test_without_noise_the_rate_found_is_at_least_half_that_of_the_best_candidate():
    rule, update, _ = searching(2000, SETTINGS)
    state = calibrated(rule.init(), 0.003)._replace(
        stage=jnp.int32(CANDIDATES), log_scale=jnp.float32(0.0)
    )
    state = state._replace(found=state.found._replace(has_noise=jnp.array(False)))
    losses = [1.6, 1.2, 1.8]
    while state.stage == CANDIDATES:
        _, state = update(observation(value=losses[int(state.candidate)]), state)
    best = 10**-1.25
    assert float(jnp.exp(state.found.log_scale)) == pytest.approx(best / 2, rel=1e-3)


@pytest.mark.parametrize(
    ("total_steps", "candidate"), [(None, 20), (200, 5), (2000, 30), (10**6, 200)]
)
def test_candidates_are_in_proportion_to_the_run(total_steps, candidate):
    assert lengths(total_steps, SETTINGS).candidate_steps == candidate


@pytest.mark.parametrize(
    ("total_steps", "steps"),
    [(None, 100), (200, 10), (2000, 40), (10_000, 200), (10**6, 1000)],
)
def test_so_is_the_warm_up_within_bounds(total_steps, steps):
    assert lengths(total_steps, SETTINGS).warm_up == steps
    assert lengths(total_steps, INTERPOLATED).warm_up == 0


@pytest.mark.parametrize("clock", [31, 60, 199])
def test_a_candidate_resumed_with_fewer_total_steps_ends(clock):
    state = first_state(SETTINGS)._replace(
        stage=jnp.int32(CANDIDATES), clock=jnp.int32(clock)
    )
    sized = lengths(2000, SETTINGS)
    assert sized.candidate_steps == 30
    after, log_scale = run_candidate(state, SETTINGS, sized)
    assert np.isfinite(float(log_scale))
    assert int(after.candidate) == 1
