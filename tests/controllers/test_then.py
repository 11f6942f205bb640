"""then hands over from a rule that ends to the next."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from optax_adaptive import (
    controllers,
    scale_by_controller,
    with_rollback,
)
from optax_adaptive._controller import Found, nothing_found
from tests.contract.rules import every_rule, stream
from tests.helpers.combined import (
    asking,
    begun_with,
    differs_from_nothing,
    ending,
    handing,
    requests_of,
    scales_of,
)
from tests.helpers.follow import follow
from tests.helpers.known_rules import done_after, multiply
from tests.helpers.loud import assert_finite_answers, loud
from tests.helpers.observations import observation
from tests.helpers.spy import spy


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
    """Seen from outside: the params are reset to the copy, and train from there."""
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
    assert np.isinf(seen[0].first_value) and np.isinf(seen[0].standard_deviation)


def test_then_hands_over_with_the_factor_in_force():
    rule = controllers.then(done_after(2), multiply(0.25))
    np.testing.assert_allclose(scales_of(rule), [2, 4, 1, 1 / 4, 1 / 16, 1 / 64])


def test_the_second_rule_sees_no_window_of_the_first():
    second, seen = spy()
    scales_of(controllers.then(done_after(2), second), np.arange(6))
    jax.effects_barrier()
    assert [int(np.sum(o.mask)) for o in seen] == [1, 2, 3, 4]


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
    second = loud(controllers.REGISTRY[rule]())
    chained = controllers.then(controllers.range_test(start=0.1, stop=1.0), second)
    scales = scales_of(controllers.clip(chained, 4.0), stream(), 2)
    assert_finite_answers(scales)
    assert scales[0] == pytest.approx(0.1)


def test_the_second_begins_from_its_first_state():
    def counting():
        rule = controllers.constant()
        return rule._replace(
            init=lambda: jnp.zeros((), jnp.int32),
            update=lambda observation, state: (observation.log_scale, state),
            begin=lambda state, found: state + 1,
        )

    rule = controllers.then(done_after(2), counting())
    state = rule.init()
    for _ in range(5):
        _, state = rule.update(observation(value=1.0), state)
    assert int(state.second_state) == 1


def test_what_is_begun_hands_on_the_factor_that_it_was_handed():
    rule = controllers.then(controllers.search(), controllers.maintain())
    found = nothing_found()._replace(log_scale=jnp.float32(-3.0))
    state = rule.begin(rule.init(), found)
    assert bool(state.first_state.is_done) and float(state.left_log_scale) == -3.0
