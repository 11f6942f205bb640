"""clip, warmup, anchored and then, around rules whose moves are known."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from optax_adaptive import (
    Controller,
    Observation,
    controllers,
    scale_by_controller,
    with_rollback,
)
from optax_adaptive._controller import Found, Request, nothing
from tests.contract.rules import every_rule, stream, told
from tests.helpers.follow import follow
from tests.helpers.known_rules import done_after, multiply
from tests.helpers.spy import spy


def scales_of(rule, values=None, accumulation_size=1):
    values = np.ones(6, np.float32) if values is None else np.float32(values)
    tx = scale_by_controller(rule, accumulation_size=accumulation_size, window=6)
    tx = told(tx) if rule.needs else tx
    return np.asarray(follow(tx)(values)[0])


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


def asking(name="asking", needs=(), own_size=20, **fields):
    """A rule that holds, and asks for ``fields`` from its first decision on."""

    def update_fn(observation, state):
        return observation.log_scale, state | True

    def request_fn(state):
        asked = nothing()._replace(
            **{key: jnp.asarray(value) for key, value in fields.items()}
        )
        return jax.tree.map(
            lambda one, other: jnp.where(state, one, other), asked, nothing()
        )

    return Controller(
        lambda: jnp.zeros((), jnp.bool_),
        update_fn,
        request=request_fn,
        name=name,
        needs=needs,
        accumulation_size=own_size,
    )


def requests_of(rule, decisions):
    """What it asks for at first, and after each decision."""
    observe, state = observation_of(), rule.init()
    asked = [rule.request(state)]
    for _ in range(decisions):
        _, state = rule.update(observe, state)
        asked.append(rule.request(state))
    return asked


def observation_of():
    numbers = dict.fromkeys(Observation._fields, jnp.ones((), jnp.float32))
    entries = jnp.ones((6,), jnp.float32)
    return Observation(**numbers)._replace(
        step=jnp.array(9, jnp.int32),
        history=entries,
        mask=entries > 0,
        standard_error=entries,
        is_validated=jnp.array(False),
        has_averaging_gap=jnp.array(True),
        is_rolled_back=jnp.array(False),
    )


def differs_from_nothing(asked):
    """Which fields ask for something."""
    pairs = zip(Request._fields, asked, nothing(), strict=True)
    return {name: one.item() for name, one, other in pairs if one != other}


WISHES = dict(
    probe=np.int32(2),
    restore=True,
    snapshot=True,
    keep_snapshot=True,
    half_life=np.float32(0.5),
    average_lags=True,
    accumulation_size=np.int32(7),
)


def test_a_rule_asks_for_nothing_unless_it_says_so():
    for make in (controllers.constant, controllers.plateau, controllers.bandit):
        assert differs_from_nothing(requests_of(make(), 1)[-1]) == {}


@pytest.mark.parametrize(
    "wrap",
    [
        lambda rule: controllers.clip(rule, 2.0),
        lambda rule: controllers.warmup(rule, 5),
        lambda rule: controllers.anchored(rule, asking(half_life=np.float32(0.1))),
        lambda rule: controllers.anchored(asking(half_life=np.float32(0.1)), rule),
    ],
)
def test_what_a_rule_asks_for_inside_is_asked_for_outside(wrap):
    first, later = requests_of(wrap(asking(**WISHES)), 1)
    assert differs_from_nothing(first) == {}
    assert differs_from_nothing(later) == WISHES


def test_anchored_asks_for_what_either_asks_for():
    rule = controllers.anchored(
        asking(probe=np.int32(1), snapshot=True, half_life=np.float32(0.5)),
        asking(probe=np.int32(3), restore=True, half_life=np.float32(2.0)),
    )
    *_, asked = requests_of(rule, 1)
    assert differs_from_nothing(asked) == dict(
        probe=3, snapshot=True, restore=True, half_life=2.0
    )
    # Of averages the longest, be it that of the rule which asks for none.
    rule = controllers.anchored(
        asking(half_life=np.float32(0.5)), controllers.constant()
    )
    *_, asked = requests_of(rule, 1)
    assert differs_from_nothing(asked) == {}


class Ending(NamedTuple):
    left: jax.Array
    is_done: jax.Array


def ending(decisions):
    """Probes, and at its end asks for a return; asks for a copy at each decision."""

    def update_fn(observation, state):
        return observation.log_scale, Ending(state.left - 1, state.left <= 1)

    def request_fn(state):
        return nothing()._replace(
            probe=1 - state.is_done.astype(jnp.int32),
            restore=state.is_done,
            accumulation_size=jnp.ones((), jnp.int32),
        )

    def init_fn():
        return Ending(jnp.array(decisions, jnp.int32), jnp.zeros((), jnp.bool_))

    return Controller(init_fn, update_fn, request=request_fn)


def test_then_asks_for_what_the_rule_in_force_does():
    second = asking(
        snapshot=True, accumulation_size=np.int32(7), half_life=np.float32(0.5)
    )
    rule = controllers.then(ending(2), second)
    first, before, last, after, later = map(differs_from_nothing, requests_of(rule, 4))
    assert first == before == dict(probe=1, accumulation_size=1)
    # The decision that ends the first: its event, and for the rest the second one's.
    assert last == dict(restore=True)
    assert after == later == dict(snapshot=True, accumulation_size=7, half_life=0.5)


def test_the_return_that_ends_a_search_is_made_once():
    """Seen from outside: the params go back to the copy, and train from there."""
    rule = scale_by_controller(controllers.then(ending(3), asking()))
    tx = with_rollback(optax.chain(optax.sgd(1.0), rule))
    params = jnp.zeros(())
    state, update = tx.init(params), jax.jit(tx.update)
    seen = []
    for _ in range(8):
        updates, state = update(jnp.ones(()), state, params, value=1.0)
        params = optax.apply_updates(params, updates)
        seen.append((float(params), bool(state.snapshot.is_restored)))
    assert [where for where, _ in seen] == [-1, -2, 0, 0, -1, -2, -3, -4]
    assert [is_back for _, is_back in seen] == [0, 0, 1, 1, 0, 0, 0, 0]
    assert int(state.snapshot.rollbacks) == 0


def test_names_say_what_there_is_inside():
    plateau, bandit = controllers.plateau(), controllers.bandit()
    assert controllers.clip(plateau, 2.0).name == "clip-plateau"
    assert controllers.warmup(plateau, 5).name == "warmup-plateau"
    assert controllers.anchored(plateau, bandit).name == "anchored-plateau-bandit"
    done = controllers.range_test()
    assert controllers.then(done, plateau).name == "then-range_test-plateau"
    for name, make in controllers.REGISTRY.items():
        assert make().name == name


def test_what_one_inside_needs_the_whole_needs():
    rule, hold = asking(needs=("with_rollback",)), controllers.constant()
    both = asking(needs=("with_averaging", "with_rollback"))
    for outer, needs in (
        (controllers.clip(rule, 2.0), rule.needs),
        (controllers.warmup(rule, 5), rule.needs),
        (controllers.warmup(hold, 5), ()),
        (controllers.anchored(hold, rule), rule.needs),
        (controllers.anchored(rule, hold), rule.needs),
        (controllers.anchored(hold, hold), ()),
        (controllers.then(done_after(2), rule), rule.needs),
        (controllers.then(controllers.search(), hold), controllers.search().needs),
    ):
        assert outer.needs == needs
    assert set(controllers.anchored(rule, both).needs) == set(both.needs)
    tx = scale_by_controller(controllers.clip(rule, 2.0))
    with pytest.raises(ValueError, match="'clip-asking' does not work without with_"):
        tx.update(jnp.ones(()), tx.init(None), value=1.0)


def test_the_window_is_as_short_as_one_inside_wants_it():
    rule, hold = asking(own_size=5), controllers.constant()
    for outer, size in (
        (controllers.clip(rule, 2.0), 5),
        (controllers.warmup(rule, 5), 5),
        (controllers.warmup(hold, 5), 20),
        (controllers.anchored(rule, hold), 5),
        (controllers.anchored(hold, hold), 20),
        (controllers.then(done_after(2), rule), 5),
    ):
        assert outer.accumulation_size == size


def test_a_state_of_another_composition_is_refused():
    ours = scale_by_controller(controllers.clip(controllers.plateau(), 2.0))
    theirs = scale_by_controller(controllers.plateau())
    with pytest.raises(ValueError, match="must be 'clip-plateau-32-v"):
        ours.update(jnp.ones(()), theirs.init(None), value=1.0)


class Handing(NamedTuple):
    found: Found
    is_done: jax.Array


def handing(known):
    """A search that has found ``known`` at its first decision."""

    def update_fn(observation, state):
        return known.log_scale, state._replace(is_done=jnp.ones((), jnp.bool_))

    return Controller(lambda: Handing(known, jnp.zeros((), jnp.bool_)), update_fn)


def begun_with():
    """A rule that holds, and the list of what it was begun with."""
    seen = []
    nan = jnp.full((), -1.0, jnp.float32)
    none = Found(nan, nan, nan, jnp.zeros((), jnp.bool_))

    def update_fn(observation, state):
        jax.debug.callback(seen.append, state, ordered=True)
        return observation.log_scale, state

    def begin_fn(state, found):
        del state
        return found

    return Controller(lambda: none, update_fn, begin=begin_fn), seen


@pytest.mark.parametrize(
    "wrap",
    [
        lambda rule: rule,
        lambda rule: controllers.clip(rule, 2.0),
        lambda rule: controllers.warmup(rule, 1),
        lambda rule: controllers.anchored(rule, controllers.constant()),
    ],
)
def test_what_a_search_has_found_reaches_the_rule_inside(wrap):
    numbers = jnp.float32([0.5, 3.0, 0.1])
    known = Found(*numbers, jnp.zeros((), jnp.bool_))
    rule, seen = begun_with()
    scales_of(controllers.then(handing(known), wrap(rule)))
    jax.effects_barrier()
    assert len(seen) == 5
    for found in seen:
        np.testing.assert_allclose(found[:3], numbers, rtol=1e-5)
        assert not found.has_noise


def test_the_factor_handed_over_is_that_which_bounds_have_left():
    known = Found(*jnp.float32([5.0, 3.0, 0.1]), jnp.ones((), jnp.bool_))
    rule, seen = begun_with()
    tx = scale_by_controller(
        controllers.then(handing(known), rule), accumulation_size=1, max_scale=2.0
    )
    follow(tx)(np.ones(3, np.float32))
    jax.effects_barrier()
    np.testing.assert_allclose(seen[0].log_scale, np.log(2.0), rtol=1e-6)


def test_of_a_rule_that_tells_nothing_the_factor_alone_is_known():
    rule, seen = begun_with()
    scales_of(controllers.then(done_after(2), rule))
    jax.effects_barrier()
    np.testing.assert_allclose(seen[0].log_scale, np.log(4.0), rtol=1e-5)
    assert np.isinf(seen[0].first_value) and np.isinf(seen[0].deviation)


def test_warmup_moves_once_a_window():
    rule = controllers.warmup(controllers.constant(), steps=8)
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
        controllers.anchored(controllers.constant(), controllers.bandit()),
        controllers.anchored(controllers.constant(), controllers.constant()),
        controllers.warmup(controllers.constant(), 1),
        controllers.warmup(
            controllers.anchored(controllers.constant(), controllers.constant()), 1
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
        lambda rule: controllers.anchored(rule, controllers.constant()),
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
