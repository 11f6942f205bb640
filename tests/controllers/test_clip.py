"""clip bounds how far a decision goes."""

import numpy as np
import pytest

from optax_adaptive import (
    controllers,
)
from tests.helpers.combined import scales_of
from tests.helpers.known_rules import multiply


@pytest.mark.parametrize(("factor", "expected"), [(10, 2), (0.1, 0.5), (1.5, 1.5)])
def test_clip_bounds_a_decision(factor, expected):
    scales = scales_of(controllers.clip(multiply(factor), max_change=2.0))
    np.testing.assert_allclose(scales, expected ** np.arange(1.0, 7), rtol=1e-5)


def test_clip_keeps_the_first_factor():
    rule = controllers.clip(controllers.range_test(start=1e-4), 2.0)
    assert scales_of(rule, np.ones(1), 2)[0] == pytest.approx(1e-4)
