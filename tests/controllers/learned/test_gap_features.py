"""The averaging gap as features: against a slow reference, and without a unit."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optax_adaptive.controllers.learned import gap_features
from tests.helpers.observations import observation
from tests.references.gap_reference import gap_reference

NOISE = 0.01
PART = 1 / 32  # of the elapsed time


@functools.partial(jax.jit, static_argnums=4)
def seen(values, gaps, are_measured, noise, part):
    def step(memory, entry):
        value, gap, has_gap = entry
        window = observation()._replace(
            value=value, averaging_gap=gap, has_averaging_gap=has_gap
        )
        memory = gap_features.remember(memory, window, part)
        return memory, gap_features.features(memory, noise)

    entries = (values, gaps, are_measured)
    _, rows = jax.lax.scan(step, gap_features.first_memory(), entries)
    return rows


def rows_of(values, gaps, noise=NOISE, part=PART):
    """Features after each window."""
    are_measured = np.array([gap is not None for gap in gaps])
    gaps = np.float32([0.0 if gap is None else gap for gap in gaps])
    rows = seen(np.float32(values), gaps, are_measured, np.float32(noise), part)
    return np.asarray(rows)


def features(values, gaps, noise=NOISE):
    """Features after the last window."""
    return rows_of(values, gaps, noise)[-1]


@pytest.mark.parametrize("windows", [11, 12, 40])
@pytest.mark.parametrize("gap", [0.3, 0.03, 1e-6, -0.1])
@pytest.mark.parametrize("part", [PART, None])
def test_matches_the_reference(windows, gap, part):
    rng = np.random.default_rng(0)
    values = 1.0 + 1.0 / np.arange(1.0, windows + 1.0) + rng.normal(0, 0.01, windows)
    gaps = [None if k % 9 == 5 else gap * (1 + 0.1 * k) for k in range(windows + 2)]
    values = np.append(values, values[-2:])
    rows = rows_of(values, gaps, part=part)
    for count, (above, below) in enumerate(rows, start=1):
        want = gap_reference(values[:count], gaps[:count], NOISE, part) or 0.0
        np.testing.assert_allclose(above, max(want, 0.0), atol=2e-3)
        np.testing.assert_allclose(below, min(want, 0.0), atol=2e-3)


@pytest.mark.parametrize("unit", [1e-6, 1e6])
def test_no_unit(unit):
    values, gaps = 2.0 + np.exp(-np.arange(30) / 9.0), [0.02] * 30
    want = features(values, gaps)
    got = features(unit * (values - 2.0), unit * np.array(gaps), unit * NOISE)
    np.testing.assert_allclose(got, want, atol=1e-3)


def test_a_loss_that_rises_counts_as_far_too_high_a_rate():
    above, below = features(np.linspace(1.0, 9.0, 40), [0.1] * 40)
    assert float(above) == 1.5 and float(below) == 0.0


def test_nothing_measured_is_0():
    assert jnp.all(features(np.linspace(2.0, 1.0, 40), [None] * 40) == 0.0)


def test_a_window_that_blew_up_says_nothing():
    values, gaps = np.linspace(2.0, 1.0, 20), [0.1] * 20
    with_blow_up = features(np.append(values, np.inf), [*gaps, 5.0])
    np.testing.assert_array_equal(with_blow_up, features(values, gaps))
