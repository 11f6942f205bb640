"""clip, warmup, anchored and then, around rules whose moves are known."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optax_adaptive import Controller, controllers, scale_by_controller
from tests.common.rules import every_rule, stream
from tests.follow import follow
from tests.spy import spy


def scales_of(rule, values=None, accumulation_size=1):
    values = np.ones(6, np.float32) if values is None else np.float32(values)
    tx = scale_by_controller(rule, accumulation_size=accumulation_size, window=6)
    return np.asarray(follow(tx)(values)[0])


def multiply(factor, initial_log_scale=0.0):
    """A rule that multiplies by ``factor`` at every decision."""

    def update_fn(observation, state):
        return observation.log_scale + np.float32(np.log(factor)), state

    return Controller(lambda: (), update_fn, initial_log_scale)


@pytest.mark.parametrize(("factor", "expected"), [(10, 2), (0.1, 0.5), (1.5, 1.5)])
def test_clip_bounds_a_decision(factor, expected):
    scales = scales_of(controllers.clip(multiply(factor), max_change=2.0))
    np.testing.assert_allclose(scales, expected ** np.arange(1.0, 7), rtol=1e-5)


def test_clip_keeps_the_first_factor():
    rule = controllers.clip(controllers.range_test(start=1e-4), 2.0)
    assert scales_of(rule, np.ones(1), 2)[0] == pytest.approx(1e-4)


def test_warmup_ramps_linearly_and_then_follows():
    rule = controllers.warmup(multiply(0.5), steps=4)
    np.testing.assert_allclose(
        scales_of(rule), [0.25, 0.5, 0.75, 0.5, 0.25, 0.125], rtol=1e-5
    )


def test_a_trial_inside_is_one_outside_and_so_is_the_window():
    rule, hold = controllers.learned(), controllers.hold()
    done = controllers.range_test()
    for outer, number, size in (
        (controllers.clip(rule, 2.0), 1, 5),
        (controllers.warmup(rule, 5), 1, 5),
        (controllers.warmup(hold, 5), 0, 20),
        (controllers.anchored(rule, hold), 1, 5),
        (controllers.anchored(hold, hold), 0, 20),
        (controllers.then(done, rule), 0, 5),  # no trial until range_test is done
    ):
        assert int(outer.trial(outer.init())) == number
        assert outer.accumulation_size == size


def test_warmup_moves_once_a_window():
    rule = controllers.warmup(controllers.hold(), steps=8)
    scales = scales_of(rule, np.ones(9), 2)
    expected = np.array([1, 2, 2, 4, 4, 6, 6, 8, 8]) / 8
    np.testing.assert_allclose(scales, expected, rtol=1e-5)


def test_a_warmed_rule_is_not_asked_before_the_ramp_ends():
    # Flat from the start: without the wait, plateau would have lowered the rate.
    rule = controllers.warmup(controllers.plateau(0.5, patience=3), steps=5)
    np.testing.assert_allclose(scales_of(rule)[-2:], [1, 1], rtol=1e-5)


def test_anchored_multiplies_without_compounding():
    rule = controllers.anchored(multiply(0.5), multiply(3.0))
    np.testing.assert_allclose(scales_of(rule), 1.5 ** np.arange(1, 7), rtol=1e-5)


def test_each_part_of_anchored_sees_its_own_factor_alone():
    anchor, seen = spy()
    anchor = anchor._replace(initial_log_scale=np.log(0.1))
    scales = scales_of(controllers.anchored(anchor, multiply(2.0)))
    jax.effects_barrier()
    np.testing.assert_allclose(
        [o.log_scale for o in seen], np.full(6, np.log(0.1)), rtol=1e-6
    )
    np.testing.assert_allclose(scales, 0.1 * 2 ** np.arange(1.0, 7), rtol=1e-5)


class Counting(NamedTuple):
    left: jax.Array
    is_done: jax.Array


def done_after(decisions):
    """Doubles the rate ``decisions`` times, then is done."""

    def init_fn():
        return Counting(jnp.array(decisions, jnp.int32), jnp.zeros((), jnp.bool_))

    def update_fn(observation, state):
        log_scale = observation.log_scale + np.float32(np.log(2))
        return log_scale, Counting(state.left - 1, state.left <= 1)

    return Controller(init_fn, update_fn)


def test_then_hands_over_with_the_factor_in_force():
    rule = controllers.then(done_after(2), multiply(0.25))
    np.testing.assert_allclose(scales_of(rule), [2, 4, 1, 1 / 4, 1 / 16, 1 / 64])


def test_the_second_rule_sees_no_window_of_the_first():
    second, seen = spy()
    scales_of(controllers.then(done_after(2), second), np.arange(6))
    jax.effects_barrier()
    assert [int(np.sum(o.mask)) for o in seen] == [1, 2, 3, 4]


@pytest.mark.parametrize(
    "second",
    [
        controllers.anchored(controllers.hold(), controllers.bandit()),
        controllers.anchored(controllers.hold(), controllers.hold()),
        controllers.warmup(controllers.hold(), 1),
        controllers.warmup(
            controllers.anchored(controllers.hold(), controllers.hold()), 1
        ),
    ],
)
def test_what_wraps_goes_on_from_what_it_is_handed(second):
    rule = controllers.then(done_after(3), second)
    np.testing.assert_allclose(scales_of(rule, range(9))[2:], 8.0, rtol=1e-4)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda rule: rule,
        lambda rule: controllers.warmup(rule, 1),
        lambda rule: controllers.anchored(rule, controllers.hold()),
    ],
)
@pytest.mark.parametrize("bounds", [(1e-8, 2.0), (0.5, 1e8)])
def test_no_wrapper_runs_on_past_a_bound(wrap, bounds):
    rule = wrap(controllers.bold_driver(1.5))
    low, high = bounds
    # Towards the bound for long, then back: a rise halves the rate, a fall raises it.
    values = 100.0 - np.arange(40) if high == 2.0 else 100.0 + np.arange(40)
    back = values[-1] + (1 if high == 2.0 else -1) * np.arange(1.0, 5)
    tx = scale_by_controller(rule, accumulation_size=1, min_scale=low, max_scale=high)
    scales = follow(tx)(np.float32([*values, *back]))[0]
    inner = scales[-3:]
    assert np.all((inner > low) & (inner < high)), inner


@pytest.mark.parametrize("name", ["bandit", "q_learning", "actor_critic"])
def test_a_learner_goes_on_from_what_it_is_handed(name):
    rule = controllers.then(done_after(14), controllers.REGISTRY[name]())
    scales = scales_of(rule, 5.0 - 0.1 * np.arange(17))
    np.testing.assert_allclose(scales[13:], 2.0**14, rtol=1e-4)


def test_a_learner_begins_once_though_its_first_window_blew_up():
    values = np.float32([*(5.0 - 0.1 * np.arange(15)), np.inf, 3.0, 2.9, 2.8])
    rule = controllers.then(done_after(14), controllers.bandit(repeat=2))
    scales = scales_of(rule, values)
    np.testing.assert_allclose(scales[13:15], 2.0**14, rtol=1e-4)
    assert np.max(scales[17:]) < 0.9 * 2.0**14  # the blow-up took it down


@every_rule
def test_every_rule_may_follow_the_range_test(rule):
    second = controllers.REGISTRY[rule]()
    chained = controllers.then(controllers.range_test(start=0.1, stop=1.0), second)
    scales = scales_of(controllers.clip(chained, 4.0), stream(), 2)
    assert np.all(np.isfinite(scales))
    assert scales[0] == pytest.approx(0.1)
