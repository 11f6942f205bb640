"""What noise costs, as features: against a slow reference, and without a unit."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optax_adaptive import Observation
from optax_adaptive.controllers import _cost_features

NOISE = 0.01
PERIOD = 1 / 32  # of the elapsed time
EMPTY = Observation(*[jnp.zeros(())] * len(Observation._fields))


def reference(values, costs, part):
    """log10 of the cost over the fall, in float64, or None: too little to judge by."""
    measured = [cost for cost in costs if cost is not None]
    if min(len(values), len(measured)) < 12:
        return None

    def average(entries, scale, when):
        mean = entries[0]
        for count, (k, entry) in enumerate(zip(when, entries, strict=True), start=1):
            share = 1.0 / (k + 1) if part is None else part
            mean += min(max(1.0 / count, scale * share), 1.0) * (entry - mean)
        return mean

    when = range(len(values))
    fall = average(values, 1.28, when) - average(values, 3.2, when)
    weights = np.array([1.28, 3.2]) * (1.0 / len(values) if part is None else part)
    fall += 2.0 * NOISE * np.sqrt(np.sum(weights / (2.0 - weights)))
    are_measured = [k for k, cost in enumerate(costs) if cost is not None]
    cost = average(measured, 3.2, are_measured)
    if cost <= 0.0:
        return -1.5
    return float(np.clip(np.log10(cost / max(fall, 1e-30)), -1.5, 1.5))


@functools.partial(jax.jit, static_argnums=4)
def seen(values, costs, are_measured, noise, part):
    def step(memory, entry):
        value, noise_cost, has_noise_cost = entry
        window = EMPTY._replace(
            value=value, noise_cost=noise_cost, has_noise_cost=has_noise_cost
        )
        return _cost_features.remember(memory, window, part), None

    entries = (values, costs, are_measured)
    memory, _ = jax.lax.scan(step, _cost_features.first_memory(), entries)
    return _cost_features.features(memory, noise)


def features(values, costs, noise=NOISE, part=PERIOD):
    are_measured = np.array([cost is not None for cost in costs])
    costs = np.float32([0.0 if cost is None else cost for cost in costs])
    return seen(np.float32(values), costs, are_measured, np.float32(noise), part)


@pytest.mark.parametrize("windows", [11, 12, 40])
@pytest.mark.parametrize("cost", [0.3, 0.03, 1e-6, -0.1])
@pytest.mark.parametrize("part", [PERIOD, None])
def test_matches_the_reference(windows, cost, part):
    rng = np.random.default_rng(0)
    values = 1.0 + 1.0 / np.arange(1.0, windows + 1.0) + rng.normal(0, 0.01, windows)
    costs = [None if k % 9 == 5 else cost * (1 + 0.1 * k) for k in range(windows + 2)]
    values = np.append(values, values[-2:])
    for count in range(1, len(costs) + 1):
        want = reference(list(values[:count]), costs[:count], part) or 0.0
        above, below = features(values[:count], costs[:count], part=part)
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
