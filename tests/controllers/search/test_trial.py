"""What a trial says: the rate found, and from where the run goes on."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optax_adaptive import controllers
from optax_adaptive.controllers.search import SearchSettings
from optax_adaptive.controllers.search.settings import (
    MOST_TRIALS,
    TRIAL,
    WARM_UP,
    lengths,
)
from tests.helpers.observations import observation

SETTINGS = SearchSettings()
STEPS, PART = 60, 20
DECREASE = 2.0  # of the loss, from the second third of a trial to the last


@functools.cache
def searching(total_steps=None, settings=SETTINGS):
    """The rule, and its functions compiled."""
    rule = controllers.search(total_steps, settings)
    return rule, jax.jit(rule.update), jax.jit(rule.request)


def before_trial(standard_deviation=0.0, gradient_factor=1.0):
    """The state at its start; the gradient turns at a factor of 1."""
    rule, *_ = searching()
    found = rule.init().found._replace(
        first_value=jnp.float32(3.0),
        standard_deviation=jnp.float32(standard_deviation),
        gradient_factor=jnp.float32(gradient_factor),
    )
    slope = -math.log(lengths(None, SETTINGS).rise)
    return rule.init()._replace(
        stage=jnp.int32(TRIAL), log_scale=jnp.float32(slope), found=found
    )


def after_trial(gap, state=None, decrease=DECREASE, every=1, settings=SETTINGS):
    """The state after a trial with this gap, measured so often; and its factors."""
    _, update, _ = searching(settings=settings)
    state = before_trial() if state is None else state
    trials, factors = int(state.trials), []
    while int(state.trials) == trials:
        is_early = state.clock < 2 * PART or state.is_waiting
        step = int(state.clock)
        seen = observation(
            value=3.0 if is_early else 3.0 - decrease,
            # What it was before the last third says nothing.
            averaging_gap=gap if step >= STEPS - PART else 100.0,
            has_averaging_gap=step % every == 0,
        )
        log_scale, state = update(seen, state)
        factors.append(float(jnp.exp(log_scale)))
    return state, factors


def warmed_up(state):
    """The factors of the warm-up, at the end of which a copy is taken."""
    _, update, request = searching()
    factors = []
    while not state.is_done:
        assert request(state).probe == -1 and request(state).accumulation_size == 1
        log_scale, state = update(observation(value=1.0), state)
        factors.append(float(jnp.exp(log_scale)))
    assert request(state).snapshot and request(state).probe == 0
    return factors


def found(state):
    return float(jnp.exp(state.found.log_scale))


def expected(ratio):
    """The factor on the rate at which the gradient turns."""
    return SETTINGS.even_factor * ratio**-SETTINGS.power


@pytest.mark.parametrize("every", [1, 4])  # as with interpolation
@pytest.mark.parametrize("ratio", [0.05, 0.25, 1.0, 4.0])
def test_the_rate_found_follows_from_the_gap_over_the_decrease(ratio, every):
    state, factors = after_trial(ratio * DECREASE, every=every)
    assert state.stage == WARM_UP
    assert found(state) == pytest.approx(expected(ratio), rel=1e-3)
    np.testing.assert_allclose(factors, np.arange(1, STEPS + 1) / 100, rtol=1e-4)


@pytest.mark.parametrize("ratio", [-1.0, 0.0, 0.001])
def test_it_is_at_most_the_one_at_which_the_gradient_turns(ratio):
    state, _ = after_trial(ratio * DECREASE)
    assert found(state) == pytest.approx(SETTINGS.most_factor, rel=1e-4)


def test_a_decrease_within_its_noise_may_be_larger():
    state, _ = after_trial(0.25, before_trial(0.5), decrease=0.0)
    error = 0.5 * math.sqrt(2 / PART)
    assert found(state) == pytest.approx(expected(0.25 / error), rel=1e-3)


def test_gradients_of_another_loss_have_another_gap():
    state, _ = after_trial(64.0 * DECREASE, before_trial(gradient_factor=64.0))
    assert found(state) == pytest.approx(expected(1.0), rel=1e-3)


@pytest.mark.parametrize(("ratio", "keeps"), [(0.1, True), (0.17, True), (0.18, False)])
def test_the_run_goes_on_from_a_trial_whose_rate_was_not_far_too_high(ratio, keeps):
    """The rate reached is 0.6; 0.8 of it is found at a ratio of 0.174."""
    state, factors = after_trial(ratio * DECREASE)
    assert bool(searching()[2](state).restore) != keeps
    # As steeply as in the trial, from the rate reached or from 0.
    rises = np.minimum(np.arange(61 if keeps else 1, 102) / 100, found(state))
    after = warmed_up(state)
    np.testing.assert_allclose(after, rises[: len(after)], rtol=1e-4)
    assert len(factors) == STEPS and after[-1] == pytest.approx(found(state))


def test_a_rate_above_the_turning_one_is_reached_by_hundredths_of_it():
    settings = SETTINGS._replace(most_factor=3.0)
    state, _ = after_trial(0.0, settings=settings)
    assert found(state) == pytest.approx(3.0, rel=1e-4)
    # 0.6, where the trial has ended, is 20 of them.
    rises = np.arange(21, 101) * 3.0 / 100
    np.testing.assert_allclose(warmed_up(state), rises, rtol=1e-4)


def test_where_noise_is_all_that_is_left_a_far_lower_rate_is_tried():
    state, factors = after_trial(50.0 * DECREASE)
    _, _, request = searching()
    assert state.stage == TRIAL and state.trials == 1
    assert request(state).restore and request(state).probe == TRIAL + 1
    state, lower = after_trial(DECREASE, state)
    part = SETTINGS.least_factor
    np.testing.assert_allclose(lower, part * np.array(factors), rtol=1e-4)
    assert found(state) == pytest.approx(part * expected(1.0), rel=1e-3)


def test_trials_end():
    """At gaps that are always too large: the last one's answer is the lowest."""
    state = before_trial()
    while state.stage == TRIAL:
        state, _ = after_trial(100.0 * DECREASE, state)
    assert state.trials == MOST_TRIALS
    lowest = SETTINGS.least_factor**MOST_TRIALS
    assert found(state) == pytest.approx(lowest, rel=1e-3)


def test_a_rate_that_is_to_blame_for_bad_losses_is_not_tried_again():
    """They are looked at twice, since the first time may be a burst of bad batches."""
    _, update, request = searching()
    state = before_trial()
    for _ in range(200):
        is_blown_up = not state.is_waiting and state.clock >= 30
        value = np.inf if is_blown_up else 3.0
        _, state = update(observation(value=value), state)
        if state.trials:
            break
    assert state.stage == TRIAL and request(state).restore
    _, lower = after_trial(0.0, state)
    # A third of the rate at which it blew up is what the next trial aims at.
    assert lower[-1] == pytest.approx(0.6 * 0.3 / 3, rel=0.1)


def test_a_trial_begun_anew_after_bad_batches_forgets_what_it_saw():
    _, update, _ = searching()
    state = before_trial()
    for _ in range(50):
        seen = observation(value=3.0, averaging_gap=50.0, has_averaging_gap=True)
        _, state = update(seen, state)
    for _ in range(20):
        _, state = update(observation(value=np.nan), state)
    assert state.is_waiting
    state, factors = after_trial(DECREASE, state)
    assert factors[-STEPS] == pytest.approx(1 / 100)
    assert found(state) == pytest.approx(expected(1.0), rel=1e-3)


@pytest.mark.parametrize(
    ("total_steps", "trial", "rise"),
    [(None, 60, 100), (10**6, 60, 100), (480, 60, 100), (200, 25, 42)],
)
def test_a_trial_takes_an_eighth_of_a_short_run_at_most(total_steps, trial, rise):
    assert lengths(total_steps, SETTINGS) == (trial, trial // 3, rise)


@pytest.mark.parametrize("clock", [26, 59, 199])
def test_a_trial_resumed_with_fewer_total_steps_ends(clock):
    _, update, _ = searching(200)
    state = before_trial()._replace(clock=jnp.int32(clock))
    log_scale, after = update(observation(value=2.0), state)
    assert np.isfinite(float(log_scale))
    assert after.trials == 1
