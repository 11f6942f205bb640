"""The reach that keeps learners from rates too large, by hand."""

import jax.numpy as jnp
import pytest

from optax_adaptive.controllers.online import _action_ceiling


def watch(reach, action=0.0, *, is_rising=False, is_blown_up=False):
    return _action_ceiling.watch(
        reach, jnp.float32(action), jnp.array(is_rising), jnp.array(is_blown_up)
    )


def test_the_reach_grows_from_the_lowest_action_and_slowly_above_the_anchor():
    reach, reached = _action_ceiling.first_reach(), []
    for _ in range(7):
        action = _action_ceiling.limited(reach, jnp.float32(1))
        reached.append(float(action))
        reach = watch(reach, action)
    assert reached == [-1, -0.5, 0, 0.25, 0.5, 0.75, 1]


def test_a_rise_takes_the_reach_back_and_slows_it():
    reach = _action_ceiling.first_reach()._replace(largest=jnp.float32(0.5))
    reach = watch(reach, 0.5, is_rising=True)
    assert float(reach.largest) == 0.0
    assert float(watch(reach, -0.1).largest) == pytest.approx(0.2)
    assert float(watch(reach, is_blown_up=True, is_rising=True).largest) == -1.0


def test_a_false_alarm_is_forgiven():
    reach = watch(_action_ceiling.first_reach(), is_rising=True)
    assert float(reach.growth) == 0.25
    for _ in range(4):
        reach = watch(reach)
    assert float(reach.growth) == 0.5


def test_a_rate_that_was_searched_for_is_not_raised():
    reach = _action_ceiling.found_reach()
    for _ in range(3):
        reach = watch(reach)
        assert float(_action_ceiling.limited(reach, jnp.float32(1.0))) == 0.0


def test_a_rise_does_not_lower_a_rate_that_was_searched_for_but_a_blow_up_does():
    reach = _action_ceiling.found_reach()
    risen = watch(reach, 0.0, is_rising=True)
    assert (float(risen.largest), float(risen.growth)) == (0.0, 0.5)
    blown_up = watch(reach, 0.0, is_blown_up=True)
    assert float(blown_up.largest) == -1.0
    assert float(watch(blown_up, -1.0).largest) == -0.5
