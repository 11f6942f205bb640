"""Settings of the online learners: each ablation is an argument."""

import jax.numpy as jnp
import numpy as np
import pytest

from optax_adaptive import controllers, scale_by_controller
from optax_adaptive.controllers.online import OnlineSettings
from optax_adaptive.controllers.online._learner import Learner
from tests.helpers.follow import follow

VALUES = np.float32(5 / (1 + np.arange(12) / 10))


def proposes(action):
    """Replaces a learner by one that always proposes ``action``."""

    def act(rewards, features, key, exploration):
        del features, key, exploration
        return jnp.array(action, jnp.float32), rewards

    def learn(rewards, transition):
        return jnp.append(rewards[1:], transition.r_t)

    return lambda learner: Learner(lambda: jnp.zeros(6, jnp.float32), act, learn)


def log_scales(**settings):
    settings = OnlineSettings(**settings)
    rule = controllers.bandit(alpha=1.0, repeat=2, settings=settings)
    tx = scale_by_controller(rule, accumulation_size=1, window=6)
    return np.log(np.asarray(follow(tx)(VALUES)[0]))


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        # The ceiling, half the bound a block, is above what the mean leads to.
        (dict(wrap_learner=proposes(-0.5)), -0.9),
        (dict(wrap_learner=proposes(-0.5), dead_band=0.0, gain=1.0), -0.5),
        (dict(wrap_learner=proposes(-0.1)), 0.0),
        (dict(wrap_learner=proposes(-0.1), dead_band=0.0), -0.3),
        (dict(wrap_learner=proposes(1.0)), 0.5),
        (dict(wrap_learner=proposes(1.0), has_ceiling=False), 1.0),
        (dict(wrap_learner=proposes(1.0), ceiling_growth=0.25), 0.0),
    ],
)
def test_an_ablation_is_an_argument(settings, expected):
    assert log_scales(**settings)[7] == pytest.approx(expected, abs=1e-5)


def test_without_smoothing_a_proposal_is_taken_at_once():
    changes = dict(wrap_learner=proposes(0.4), has_ceiling=False)
    smoothed = log_scales(**changes)
    at_once = log_scales(**changes, smoothing_weight=1.0)
    assert at_once[1] == pytest.approx(0.6, abs=1e-5)
    assert smoothed[1] == pytest.approx(0.0, abs=1e-5)  # 0.3 of 0.4: in the dead band
