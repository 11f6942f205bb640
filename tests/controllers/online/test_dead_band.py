"""How much of what a learner wants is done: the sequence of a few wants, by hand."""

import jax.numpy as jnp
import pytest

from optax_adaptive.controllers.online._dead_band import resolved, weigh


def mean_of(*wants):
    mean = jnp.zeros((), jnp.float32)
    for wanted in wants:
        mean = weigh(mean, jnp.float32(wanted))
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
def test_little_is_left_undone_and_of_more_more_is_done(mean, action):
    assert float(resolved(jnp.float32(mean))) == pytest.approx(action, abs=1e-6)
