"""The reach that keeps learners from rates too large, by hand."""

import jax.numpy as jnp
import pytest

from optax_adaptive.controllers import _reach


def watch(reach, action=0.0, *, is_rising=False, is_blown_up=False):
    return _reach.watch(
        reach, jnp.float32(action), jnp.array(is_rising), jnp.array(is_blown_up)
    )


def test_the_reach_grows_from_the_lowest_action():
    reach, reached = _reach.first_reach(), []
    for _ in range(5):
        action = _reach.limited(reach, jnp.float32(1))
        reached.append(float(action))
        reach = watch(reach, action)
    assert reached == [-1, -0.5, 0, 0.5, 1]


def test_a_rise_takes_the_reach_back_and_slows_it():
    reach = _reach.first_reach()._replace(largest=jnp.float32(0.5))
    reach = watch(reach, 0.5, is_rising=True)
    assert float(reach.largest) == 0.0
    assert float(watch(reach, 0.0).largest) == pytest.approx(0.3)
    assert float(watch(reach, is_blown_up=True, is_rising=True).largest) == -1.0


def test_a_false_alarm_is_forgiven():
    reach = watch(_reach.first_reach(), is_rising=True)
    assert float(reach.growth) == 0.25
    for _ in range(4):
        reach = watch(reach)
    assert float(reach.growth) == 0.5
