"""The guard that keeps learners from doing harm, by hand."""

import jax.numpy as jnp
import numpy as np
import pytest

from optax_adaptive.controllers import _guard


def watch(
    guard,
    action=0.0,
    advantage=0.0,
    *,
    is_control=False,
    is_rising=False,
    is_blown_up=False,
    is_judged=False,
):
    return _guard.watch(
        guard,
        jnp.float32(action),
        jnp.float32(advantage),
        is_control=jnp.array(is_control),
        is_rising=jnp.array(is_rising),
        is_blown_up=jnp.array(is_blown_up),
        is_judged=jnp.array(is_judged),
    )


def test_the_reach_grows_from_the_lowest_action():
    guard, reached = _guard.first_guard(), []
    for _ in range(5):
        action = _guard.limited(guard, jnp.float32(1))
        reached.append(float(action))
        guard = watch(guard, action)
    assert reached == [-1, -0.5, 0, 0.5, 1]


def test_a_rise_takes_the_reach_back_and_slows_it():
    guard = _guard.first_guard()._replace(reach=jnp.float32(0.5))
    guard = watch(guard, 0.5, is_rising=True)
    assert float(guard.reach) == 0.0
    assert float(watch(guard, 0.0).reach) == pytest.approx(0.3)
    assert float(watch(guard, 0.0, is_blown_up=True, is_rising=True).reach) == -1.0


def moments_reference(advantages, discount=0.97):
    weights = discount ** np.arange(len(advantages))[::-1]
    count = np.sum(weights)
    mean = np.sum(weights * advantages) / count
    m2 = np.sum(weights * (advantages - mean) ** 2)
    return count, mean, max(m2 / (count - 1), 1.0) / count


def test_a_false_alarm_is_forgiven():
    guard = watch(_guard.first_guard(), is_rising=True)
    assert float(guard.growth) == 0.25
    for _ in range(4):
        guard = watch(guard)
    assert float(guard.growth) == 0.5


def test_the_gain_is_that_of_the_own_blocks():
    rng = np.random.default_rng(0)
    own = rng.normal(2, 2, 30)
    guard = _guard.first_guard()
    for advantage in own:
        guard = watch(guard, advantage=advantage)
        guard = watch(guard, advantage=9.0, is_control=True)
    count, mean, squared_error = moments_reference(own)
    np.testing.assert_allclose(guard.gain.count, count, rtol=1e-4)
    np.testing.assert_allclose(guard.gain.mean, mean, rtol=1e-3)
    expected = mean - 1.5 * np.sqrt(squared_error)
    np.testing.assert_allclose(_guard.lower_bound(guard), expected, rtol=1e-3)


def test_without_evidence_the_strength_fades_and_comes_back_with_it():
    guard = _guard.first_guard()
    assert float(watch(guard).strength) == 1  # not judged yet
    guard = watch(watch(guard, is_judged=True), is_judged=True)
    assert float(guard.strength) == 0.25
    assert float(_guard.limited(guard, jnp.float32(-1))) == -0.25
    for _ in range(20):
        guard = watch(guard, advantage=2.0, is_judged=True)
    assert float(guard.strength) == pytest.approx(1, abs=1e-3)
