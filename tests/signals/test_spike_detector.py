"""The spike detector: rises are seen; spikes, noise and descent are none."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optax_adaptive.signals import spike_detector


def watch_all(values):
    """The signals on a stream of losses."""

    def step(detector, value):
        return spike_detector.watch(detector, value)

    values = jnp.asarray(values, jnp.float32)
    _, signals = jax.lax.scan(step, spike_detector.first_detector(), values)
    return signals


def noise(steps, seed=0):
    return np.random.default_rng(seed).normal(size=steps)


@pytest.mark.parametrize("offset", [5.0, 0.0, -300.0])
@pytest.mark.parametrize("seed", range(5))
def test_no_signal_on_noise_and_descent(offset, seed):
    descent = 3.0 * np.exp(-np.arange(2000) / 300)
    values = offset + descent + 0.3 * noise(2000, seed)
    assert not watch_all(values).is_spike.any()


def test_no_signal_on_spikes_of_a_hundred_times_the_loss():
    values = 1.0 + 0.1 * noise(2000)
    values[np.random.default_rng(1).random(2000) < 0.01] *= 100
    assert not watch_all(values).is_spike.any()


@pytest.mark.parametrize("offset", [5.0, 0.0, -300.0])
def test_signal_soon_after_a_jump(offset):
    values = offset + 0.1 * noise(400)
    values[300:] += 2.0
    raised = np.flatnonzero(watch_all(values).is_spike)
    assert 300 < raised[0] < 315


def test_signal_on_a_slow_rise():
    values = 1.0 + 0.3 * noise(3000)
    values[1000:] += np.linspace(0, 0.5, 2000)
    raised = np.flatnonzero(watch_all(values).is_spike)
    assert 1000 < raised[0] < 2900


@pytest.mark.parametrize("spike", [1e3, 1e25, 1e36])
def test_a_spike_among_the_first_values_hides_no_later_rise(spike):
    values = 1.0 + 0.1 * noise(600)
    values[4] = spike
    values[500:] += 50.0
    raised = np.flatnonzero(watch_all(values).is_spike)
    assert raised.size and 500 <= raised[0] < 530


@pytest.mark.parametrize("unit", [1e-30, 1.0, 1e30])
def test_signals_have_no_unit(unit):
    values = 1.0 + 0.1 * noise(400)
    values[300:] += 2.0
    raised = np.flatnonzero(watch_all(unit * values).is_spike)
    assert 300 <= raised[0] < 320


def test_ten_nonfinite_values_in_a_row_are_a_spike_and_fewer_are_not():
    values = np.ones(100)
    values[50:59] = np.nan
    values[80:90] = np.inf
    signals = watch_all(values)
    assert np.flatnonzero(signals.is_spike).tolist() == [89]
    bad = [*range(50, 59), *range(80, 90)]
    assert np.flatnonzero(~signals.is_finite).tolist() == bad


def test_a_loss_far_above_what_is_normal_is_not_used():
    values = 1.0 + 0.01 * noise(100)
    values[50], values[60], values[70] = 8.0, 1e3, np.nan
    assert np.flatnonzero(~watch_all(values).is_usable).tolist() == [60, 70]


@pytest.mark.parametrize("first", [3 * [np.nan], 3 * [0.0], [np.nan], 12 * [0.0]])
def test_first_values_that_say_nothing_of_the_size_of_others(first):
    values = np.array([*first, *(2.3 + 0.05 * noise(60)), *(1e5 + noise(20))])
    signals = watch_all(values)
    start = len(first)
    settled = slice(start + 30, start + 60)
    np.testing.assert_allclose(signals.unspiked[settled], values[settled])
    spikes = np.flatnonzero(signals.is_spike)
    assert spikes.size and spikes[0] >= start + 60


def test_a_first_value_that_is_not_finite_does_not_count_as_zero():
    values = 2.3 + 0.05 * noise(60)
    after_nan = watch_all([np.nan, *values])
    np.testing.assert_array_equal(after_nan.unspiked[1:], watch_all(values).unspiked)
