"""search within the wrappers: it finds a rate, and what follows goes on from there."""

import functools
from itertools import cycle

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from optax_adaptive import (
    controllers,
    eval_params,
    lr_scale,
    scale_by_controller,
    summary,
    with_averaging,
    with_rollback,
)
from optax_adaptive.controllers.search import SearchSettings
from optax_adaptive.controllers.search.gradient_factor import factor_of
from optax_adaptive.controllers.search.settings import (
    RANGE_TEST,
    TRIAL,
    WARM_UP,
    lengths,
)
from tests.helpers.observations import observation
from tests.helpers.spy import spy


def wrapped(rule):
    """The rule behind an SGD of a rate far too low, in the wrappers."""
    scaling = scale_by_controller(rule, min_scale=1e-30, max_scale=1e30)
    return with_averaging(with_rollback(optax.chain(optax.sgd(1e-6), scaling)))


def train(tx, steps, noise=0.05, most=jnp.inf):
    """Of a quadratic; the last average of params, the state, and all summaries.

    Where a parameter, which is best at 1, is above ``most``, the loss overflows.
    """

    def step(carry, index):
        params, state = carry
        shift = noise * jax.random.normal(jax.random.key(index), (4,))
        loss, grads = jax.value_and_grad(
            lambda p: jnp.sum(jnp.square(p - 1.0 + shift))
        )(params)
        loss = jnp.where(jnp.max(params) > most, jnp.inf, loss)
        updates, state = tx.update(grads, state, params, value=loss)
        return (optax.apply_updates(params, updates), state), summary(state)

    start = jnp.zeros(4), tx.init(jnp.zeros(4))
    (params, state), numbers = jax.lax.scan(step, start, jnp.arange(steps))
    averaged = eval_params(state, params)
    return averaged, state, jax.tree.map(np.asarray, numbers)


def found_at(numbers):
    """The step from which on the rate is the one found, which is after the warm-up."""
    (first, *_) = np.flatnonzero(numbers["found_scale"] > 0.0)
    return first


@functools.cache
def searched(most=jnp.inf):
    return train(wrapped(controllers.search(400)), 400, most=most)


def test_alone_it_finds_a_rate_and_holds_it():
    params, state, numbers = searched()
    assert set(numbers["phase"]) == {0, 1, 2, 3}
    first = found_at(numbers)
    found = summary(state)["found_scale"]
    assert 1e3 < found < 1e6  # of an SGD of 1e-6, and curvature 2
    assert (numbers["lr_scale"][first:] == found).all()
    assert float(jnp.abs(params - 1.0).max()) < 0.1


def test_losses_that_overflow_end_the_range_test_the_second_time():
    """As a burst that ends with the return is none of the rate's doing."""
    usual = searched()[1]
    params, state, numbers = searched(most=1.1)
    (in_test,) = np.nonzero(numbers["phase"] == 1)
    assert numbers["nonfinite_values"][in_test[-1]] in (20, 21)
    found = summary(state)["found_scale"] / summary(usual)["found_scale"]
    assert 0.3 < found < 3.0
    assert float(jnp.abs(params - 1.0).max()) < 0.1


def test_what_follows_goes_on_from_there_with_its_own_windows():
    rule = controllers.then(controllers.search(400), controllers.trend())
    params, _, numbers = train(wrapped(rule), 600)
    first = found_at(numbers)
    held = numbers["lr_scale"][first : first + 20]
    np.testing.assert_array_equal(held, numbers["found_scale"][first])
    # Of 20 values, but for the one of a return.
    (ends,) = np.nonzero(np.diff(numbers["windows"][first:]))
    assert ends[0] in (19, 20)
    np.testing.assert_array_equal(np.diff(ends), 20)
    changes = np.flatnonzero(np.diff(numbers["lr_scale"][first:]))
    assert changes.size and set(changes) <= set(ends)
    assert float(jnp.abs(params - 1.0).max()) < 0.1


def test_what_follows_sees_nothing_from_before():
    rule, seen = spy()
    rule = controllers.then(controllers.search(400), rule)
    *_, numbers = train(wrapped(rule), 400)
    jax.effects_barrier()
    first = found_at(numbers)
    steps = [int(o.step) for o in seen]
    assert steps[0] - first in (20, 21)
    np.testing.assert_array_equal(np.diff(steps), 20)
    assert [int(o.mask.sum()) for o in seen] == list(range(1, len(seen) + 1))
    scale = numbers["lr_scale"][first]
    np.testing.assert_allclose(np.exp(seen[0].log_scale), scale, rtol=1e-5)


def in_range_test(losses, gradient_sizes, gaps=(), **settings):
    """The state of the search after calibration, and a range test of these gaps."""
    rule = controllers.search(2000, SearchSettings(**settings))
    state, update = rule.init(), jax.jit(rule.update)
    log_scale = rule.initial_log_scale
    for loss, size in zip(cycle(losses), cycle(gradient_sizes), strict=True):
        if state.stage == RANGE_TEST:
            break
        seen = observation(
            value=loss, gradient_size=size, displacement=1e-5, log_scale=log_scale
        )
        log_scale, state = update(seen, state)
    for loss, gap in gaps:
        seen = observation(
            value=loss, gradient_size=1.0, averaging_gap=gap, has_averaging_gap=True
        )
        _, state = update(seen, state)
    return state


@pytest.mark.parametrize(
    ("losses", "gradient_sizes", "expected"),
    [
        ([3.0], [1.0], False),
        ([3.0, 3.003], [1.0, 1.02], False),  # parameters have moved a little
        ([0.0], [1.0], False),  # a loss that is exactly 0
        ([3.0], [1.0, 1.1], True),  # as of a network whose outputs begin at 0
        ([3.0, 3.1], [1.0], True),
        ([3.0], [1.0, 1.0, 0.0], False),  # no gradient at all says nothing
        ([3.0, 3.0, np.inf], [1.0, 1.0, 5.0], False),  # nor one of a loss not finite
    ],
)
def test_whether_batches_differ_shows_while_nothing_moves(
    losses, gradient_sizes, expected
):
    assert bool(in_range_test(losses, gradient_sizes).found.has_noise) == expected


@pytest.mark.parametrize(("increase", "expected"), [(4.0, TRIAL), (0.01, RANGE_TEST)])
def test_a_clear_turn_counts_where_noise_hides_the_descent(increase, expected):
    gaps = [(3.0, -0.01)] * 5 + [(3.0, increase)] * 5
    state = in_range_test([1.0, 5.0], [1.0], gaps)
    assert state.least_predicted > -0.1 * state.found.standard_deviation
    assert state.stage == expected


DESCENT = np.linspace(0.0, 1.0, 20)


@pytest.mark.parametrize("factor", [1.0, 64.0, 1 / 64])
def test_size_of_the_gradients_is_found_out_where_the_loss_clearly_descends(factor):
    gaps = [(3.0 - d, -0.35 * factor * d) for d in DESCENT]
    state = in_range_test([3.0, 3.05], [1.0], gaps)
    found = factor_of(state, SearchSettings())
    assert float(found) == pytest.approx(factor, rel=0.1)


def test_chance_and_a_blow_up_do_not_speak_of_gradients_of_another_loss():
    """A few low losses, whose decrease no gradient has foreseen, or one last update."""
    noise = [(2.9, -1e-4), (2.88, -1e-4), (2.95, -1e-4), (3.1, -1e-4)]
    state = in_range_test([3.0, 3.1], [1.0], noise)
    assert state.least_seen < -2 * state.found.standard_deviation
    assert factor_of(state, SearchSettings()) == 1.0
    descent = [(3.0 - d, -0.35 * d) for d in DESCENT]
    state = in_range_test([3.0, 3.05], [1.0], [*descent, (2.5, -100.0)])
    assert factor_of(state, SearchSettings()) == 1.0


STEP = np.log(10.0) / SearchSettings().decade  # of the rate, from one to the next


def steps_up(state):
    """Steps of the range test before the rate at which the gradient turned."""
    start = in_range_test([3.0, 3.05], [1.0]).log_scale
    turned_at = state.log_scale + np.log(lengths(2000, SearchSettings()).rise)
    return float((turned_at - start) / STEP)


@pytest.mark.parametrize(
    ("gaps", "turns_at"),
    [
        ([-1.0] * 15 + [9.0] * 5, 15),
        ([-1.0] * 15 + [1.0] * 8, 18),  # the sum of the newest is what counts
        ([-1.0] * 15 + [9.0] * 2 + [-20.0] * 5 + [99.0] * 5, 22),  # two are chance
    ],
)
def test_the_range_test_ends_once_the_gradient_has_turned(gaps, turns_at):
    state = in_range_test([3.0, 3.05], [1.0], [(2.5, gap) for gap in gaps])
    assert state.stage == TRIAL and state.restores
    assert steps_up(state) == pytest.approx(turns_at, abs=0.01)


@pytest.mark.parametrize("gap", [-1e-4, 0.0])
def test_noise_in_gradients_does_not_turn_them(gap):
    """As long as they predict less of a decrease than losses differ by."""
    gaps = [(3.0, gap), (3.0, 2e-4)] * 15
    state = in_range_test([3.0, 3.05], [1.0], gaps)
    assert state.stage == RANGE_TEST


@pytest.mark.parametrize(
    ("losses", "ends_at"),
    [
        ([3.0] * 20 + [9.0] * 3, 22),  # the loss has risen
        ([3.0] * 41, 40),  # nothing has happened: the last step
    ],
)
def test_where_it_does_not_turn_a_third_of_the_last_rate_is_tried(losses, ends_at):
    state = in_range_test([3.0, 3.05], [1.0], [(loss, -1e-4) for loss in losses])
    assert state.stage == TRIAL
    third = np.log(3.0) / STEP
    assert steps_up(state) == pytest.approx(ends_at - third, abs=0.01)


def test_settings_are_arguments():
    tx = wrapped(controllers.search(400, SearchSettings(calibration_steps=40)))
    *_, numbers = train(tx, 60)
    assert (numbers["phase"] > 0).tolist() == 39 * [False] + 21 * [True]
    highest, half = (SearchSettings(most_factor=most) for most in (1.0, 0.5))
    _, state, _ = train(wrapped(controllers.search(400, half)), 200, noise=0.0)
    _, usual, _ = train(wrapped(controllers.search(400, highest)), 200, noise=0.0)
    np.testing.assert_allclose(lr_scale(state), lr_scale(usual) / 2, rtol=1e-4)


def test_a_trial_may_be_longer():
    settings = SearchSettings(trial=90)
    *_, numbers = train(wrapped(controllers.search(2000, settings)), 300, noise=0.0)
    *_, usual = train(wrapped(controllers.search(2000)), 300, noise=0.0)
    trials = [np.count_nonzero(run["phase"] == TRIAL) for run in (numbers, usual)]
    assert trials[0] - trials[1] == 30


def test_a_trial_is_at_least_three_steps():
    with pytest.raises(ValueError, match="at least 3 steps, but settings make it 2"):
        controllers.search(settings=SearchSettings(trial=2))


def test_the_rate_found_is_warmed_up_to():
    *_, numbers = train(wrapped(controllers.search(2000)), 400, noise=0.0)
    (trial, *_) = np.flatnonzero(numbers["phase"] == 2)
    found = found_at(numbers)
    scales = numbers["lr_scale"][trial + 2 : found + 1]  # after the return
    shares = scales / scales[0]
    # In steps as large as those of the trial, from which the run goes on.
    assert 60 < len(shares) <= 100
    np.testing.assert_allclose(shares, np.arange(1, len(shares) + 1), rtol=1e-3)
    assert numbers["rollbacks"][-1] == 0


def test_a_blow_up_in_it_begins_it_anew_at_half_the_rate():
    rule = controllers.search(2000)
    state, update = rule.init(), jax.jit(rule.update)
    first, rolled_back = np.log(0.3), dict(value=np.inf, is_rolled_back=True)
    slope = jnp.float32(first - np.log(40))
    found = state.found._replace(log_scale=jnp.float32(first))
    stage = jnp.int32(WARM_UP)
    state = state._replace(stage=stage, log_scale=slope, found=found)
    seen = [dict(value=1.0)] * 10 + [rolled_back] + [dict(value=1.0)] * 40
    factors = []
    for given in seen:
        log_scale, state = update(observation(**given), state)
        assert rule.request(state).probe == (0 if state.is_done else -1)
        factors.append(float(jnp.exp(log_scale)))
    np.testing.assert_allclose(factors[:10], 0.3 * np.arange(1, 11) / 40, rtol=1e-5)
    np.testing.assert_allclose(factors[11:], 0.15 * np.arange(1, 41) / 40, rtol=1e-5)
    assert state.is_done and state.found.log_scale == jnp.float32(first) - np.log(2)
    # What is in force is kept from then on, as bounds may have cut it.
    log_scale, _ = update(observation(value=1.0, log_scale=-7.0), state)
    assert log_scale == -7.0


def test_the_rate_found_does_not_depend_on_where_the_bounds_lie():
    def error(rate, **bounds):
        rule = scale_by_controller(controllers.search(400), **bounds)
        tx = optax.chain(optax.sgd(rate), rule)
        _, state, _ = train(with_averaging(with_rollback(tx)), 200, noise=0.0)
        return rate * float(lr_scale(state))

    # The first factor, 1e-12, is below the lower bound, which is 1e-8 by default.
    rates = [error(1.0), error(1e3), error(1e3, min_scale=1e-30, max_scale=1e30)]
    np.testing.assert_allclose(rates, rates[-1], rtol=0.05)
