"""warmup ramps up, and then hands over."""

import numpy as np
import pytest

from optax_adaptive import controllers, scale_by_controller
from tests.helpers.combined import scales_of
from tests.helpers.follow import follow
from tests.helpers.known_rules import multiply


def test_warmup_ramps_linearly_and_then_follows():
    rule = controllers.warmup(multiply(0.5), steps=4)
    np.testing.assert_allclose(
        scales_of(rule), [0.25, 0.5, 0.75, 0.5, 0.25, 0.125], rtol=1e-5
    )


def test_warmup_moves_once_a_window():
    rule = controllers.warmup(controllers.constant(), steps=8)
    scales = scales_of(rule, np.ones(9), 2)
    expected = np.array([1, 2, 2, 4, 4, 6, 6, 8, 8]) / 8
    np.testing.assert_allclose(scales, expected, rtol=1e-5)


def test_a_warmed_rule_is_not_asked_before_the_ramp_ends():
    # Flat from the start: without the wait, plateau would have lowered the rate.
    rule = controllers.warmup(controllers.plateau(0.5, patience=3), steps=5)
    np.testing.assert_allclose(scales_of(rule)[-2:], [1, 1], rtol=1e-5)


def test_a_blow_up_in_the_ramp_lowers_what_it_leads_to():
    tx = scale_by_controller(
        controllers.warmup(controllers.trend(), steps=8), accumulation_size=2
    )
    calm, blown_up = [1.0, 1.0], [np.nan, np.nan]
    undisturbed, disturbed = (
        np.asarray(follow(tx)(np.float32(2 * calm + two + 3 * calm))[0])
        for two in (calm, blown_up)
    )
    assert disturbed[3] == undisturbed[3]
    lowered = disturbed[-1] / undisturbed[-1]
    assert lowered < 0.9
    # The ramp goes on, to the lower factor.
    assert disturbed[5] / undisturbed[5] == pytest.approx(lowered, rel=1e-5)
