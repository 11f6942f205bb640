"""From proposals to an action: a few proposals, by hand."""

import jax.numpy as jnp
import pytest

from optax_adaptive.controllers.online._dead_band import action_of, smoothed
from optax_adaptive.controllers.online.settings import DEFAULTS


def mean_of(*proposals):
    mean = jnp.zeros((), jnp.float32)
    for proposal in proposals:
        mean = smoothed(mean, jnp.float32(proposal), DEFAULTS)
    return float(mean)


def test_it_is_slow_to_go_up_and_quick_to_go_down():
    assert mean_of(1.0) == pytest.approx(0.3)
    assert mean_of(1.0, 1.0) == pytest.approx(0.51)
    assert mean_of(1.0, 1.0, 0.1) == pytest.approx(0.1)
    assert mean_of(-0.5) == pytest.approx(-0.5)
    assert mean_of(-0.5, 0.5) == pytest.approx(-0.2)


@pytest.mark.parametrize(
    ("mean", "action"),
    [(0.0, 0), (0.19, 0), (-0.19, 0), (0.3, 0.3), (-0.4, -0.6), (0.7, 1), (-1.0, -1)],
)
def test_a_small_mean_changes_nothing_and_a_larger_one_is_amplified(mean, action):
    assert float(action_of(jnp.float32(mean), DEFAULTS)) == pytest.approx(
        action, abs=1e-6
    )
