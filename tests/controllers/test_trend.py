"""trend against a slow reference, and the rule in so many words."""

import numpy as np
import pytest

from optax_adaptive import controllers, scale_by_controller
from tests.helpers.follow import follow
from tests.references.trend_reference import trend_reference
from tests.references.windows_reference import assert_follows


@pytest.mark.parametrize("accumulation_size", [1, 3])
@pytest.mark.parametrize(
    "settings", [dict(), dict(growth=1.1, decay=0.8, span=6), dict(growth=1.0)]
)
def test_matches_the_reference(settings, accumulation_size):
    tx = scale_by_controller(
        controllers.trend(**settings), accumulation_size=accumulation_size
    )
    assert_follows(tx, lambda: trend_reference(**settings), accumulation_size)


def noise(steps, seed=0):
    return np.random.default_rng(seed).normal(0, 0.02, steps)


def final_scale(values):
    tx = scale_by_controller(controllers.trend(), accumulation_size=2)
    return follow(tx)(np.float32(values))[0][-1]


def test_rises_while_the_loss_falls_significantly():
    assert final_scale(np.linspace(3, 1, 60) + noise(60)) > 1


def test_falls_on_a_plateau():
    assert final_scale(1 + noise(60)) < 1


def test_falls_when_the_loss_rises():
    assert final_scale(np.linspace(1, 3, 14) + noise(14)) < 1


def test_a_raw_difference_does_not_move_it():
    # Each pair of windows differs, but ten windows of noise show no slope.
    assert final_scale(1 + noise(20)) == 1
