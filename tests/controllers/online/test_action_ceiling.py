"""The ceiling that keeps learners from learning rates too large, by hand."""

import jax.numpy as jnp
import pytest

from optax_adaptive.controllers.online import _action_ceiling
from optax_adaptive.controllers.online.settings import DEFAULTS


def after_block(ceiling, action=0.0, *, is_rising=False, is_blown_up=False):
    return _action_ceiling.after_block(
        ceiling,
        jnp.float32(action),
        jnp.array(is_rising),
        jnp.array(is_blown_up),
        DEFAULTS,
    )


def test_the_ceiling_grows_from_the_lowest_action_and_slowly_above_the_anchor():
    ceiling, largest = _action_ceiling.first_ceiling(DEFAULTS), []
    for _ in range(7):
        action = _action_ceiling.limited(ceiling, jnp.float32(1), DEFAULTS)
        largest.append(float(action))
        ceiling = after_block(ceiling, action)
    assert largest == [-1, -0.5, 0, 0.25, 0.5, 0.75, 1]


def test_a_rise_lowers_the_ceiling_and_slows_it():
    ceiling = _action_ceiling.first_ceiling(DEFAULTS)._replace(largest=jnp.float32(0.5))
    ceiling = after_block(ceiling, 0.5, is_rising=True)
    assert float(ceiling.largest) == 0.0
    assert float(after_block(ceiling, -0.1).largest) == pytest.approx(0.2)
    assert float(after_block(ceiling, is_blown_up=True, is_rising=True).largest) == -1.0


def test_one_rise_has_no_lasting_effect():
    ceiling = after_block(_action_ceiling.first_ceiling(DEFAULTS), is_rising=True)
    assert float(ceiling.growth) == 0.25
    for _ in range(4):
        ceiling = after_block(ceiling)
    assert float(ceiling.growth) == 0.5


def test_a_rate_that_was_searched_for_is_not_raised():
    ceiling = _action_ceiling.ceiling_after_search(DEFAULTS)
    for _ in range(3):
        ceiling = after_block(ceiling)
        assert (
            float(_action_ceiling.limited(ceiling, jnp.float32(1.0), DEFAULTS)) == 0.0
        )


def test_a_rise_does_not_lower_a_rate_that_was_searched_for_but_a_blow_up_does():
    ceiling = _action_ceiling.ceiling_after_search(DEFAULTS)
    risen = after_block(ceiling, 0.0, is_rising=True)
    assert (float(risen.largest), float(risen.growth)) == (0.0, 0.5)
    blown_up = after_block(ceiling, 0.0, is_blown_up=True)
    assert float(blown_up.largest) == -1.0
    assert float(after_block(blown_up, -1.0).largest) == -0.5
