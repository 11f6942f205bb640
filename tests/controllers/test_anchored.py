"""anchored multiplies two rules, each of which sees its own factor."""

import jax
import numpy as np

from optax_adaptive import (
    controllers,
)
from tests.helpers.combined import asking, differs_from_nothing, requests_of, scales_of
from tests.helpers.known_rules import multiply
from tests.helpers.spy import spy


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
