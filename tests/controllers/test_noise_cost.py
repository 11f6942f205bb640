"""What noise costs, as features: against a slow reference, and without a unit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optax_adaptive import Observation
from optax_adaptive.controllers import _noise_cost

NOISE = 0.01
EMPTY = Observation(*[jnp.zeros(())] * len(Observation._fields))


def reference(values, costs):
    """log10 of the cost over the fall, in float64, or None: too little to judge by."""
    measured = [cost for cost in costs if cost is not None]
    if min(len(values), len(measured)) < 12:
        return None

    def average(entries, least):
        mean = entries[0]
        for k, entry in enumerate(entries[1:], start=2):
            mean += max(1.0 / k, least) * (entry - mean)
        return mean

    fall = average(values, 0.04) - average(values, 0.1)
    fall += 2.0 * NOISE * np.sqrt(0.04 / 1.96 + 0.1 / 1.9)
    cost = average(measured, 0.1)
    if cost <= 0.0:
        return -1.5
    return float(np.clip(np.log10(cost / max(fall, 1e-30)), -1.5, 1.5))


@jax.jit
def seen(values, costs, are_measured, noise):
    def step(memory, entry):
        value, noise_cost, has_noise_cost = entry
        window = EMPTY._replace(
            value=value, noise_cost=noise_cost, has_noise_cost=has_noise_cost
        )
        return _noise_cost.remember(memory, window), None

    entries = (values, costs, are_measured)
    memory, _ = jax.lax.scan(step, _noise_cost.first_memory(), entries)
    return _noise_cost.features(memory, noise)


def features(values, costs, noise=NOISE):
    are_measured = np.array([cost is not None for cost in costs])
    costs = np.float32([0.0 if cost is None else cost for cost in costs])
    return seen(np.float32(values), costs, are_measured, np.float32(noise))


@pytest.mark.parametrize("periods", [11, 12, 40])
@pytest.mark.parametrize("cost", [0.3, 0.03, 1e-6, -0.1])
def test_matches_the_reference(periods, cost):
    rng = np.random.default_rng(0)
    values = 1.0 + 1.0 / np.arange(1.0, periods + 1.0) + rng.normal(0, 0.01, periods)
    costs = [None if k % 9 == 5 else cost * (1 + 0.1 * k) for k in range(periods + 2)]
    values = np.append(values, values[-2:])
    for count in range(1, len(costs) + 1):
        want = reference(list(values[:count]), costs[:count]) or 0.0
        above, below = features(values[:count], costs[:count])
        np.testing.assert_allclose(above, max(want, 0.0), atol=2e-3)
        np.testing.assert_allclose(below, min(want, 0.0), atol=2e-3)


@pytest.mark.parametrize("unit", [1e-6, 1e6])
def test_no_unit(unit):
    values, costs = 2.0 + np.exp(-np.arange(30) / 9.0), [0.02] * 30
    want = features(values, costs)
    got = features(unit * (values - 2.0), unit * np.array(costs), unit * NOISE)
    np.testing.assert_allclose(got, want, atol=1e-3)


def test_a_loss_that_rises_counts_as_far_too_high_a_rate():
    above, below = features(np.linspace(1.0, 9.0, 40), [0.1] * 40)
    assert float(above) == 1.5 and float(below) == 0.0


def test_nothing_measured_is_0():
    assert jnp.all(features(np.linspace(2.0, 1.0, 40), [None] * 40) == 0.0)


def test_a_window_that_blew_up_says_nothing():
    values, costs = np.linspace(2.0, 1.0, 20), [0.1] * 20
    with_blow_up = features(np.append(values, np.inf), [*costs, 5.0])
    np.testing.assert_array_equal(with_blow_up, features(values, costs))
