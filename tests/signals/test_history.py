"""The history and its statistics against numpy and scipy."""

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from optax_adaptive.signals import history
from optax_adaptive.signals.slope_test import slope_test
from tests.references.slope_reference import slope_reference

SIZE = 12


def padded(values):
    values = np.float32(values)
    history = np.concatenate([np.full(SIZE - len(values), 7, np.float32), values])
    return jnp.array(history), jnp.array(len(values), jnp.int32)


def noise(count, seed=0):
    return np.random.default_rng(seed).normal(3, 1, count)


def test_push_drops_the_oldest():
    buffer = history.push(jnp.arange(3, dtype=jnp.float32), jnp.float32(9))
    np.testing.assert_array_equal(buffer, [1, 2, 9])


def test_filled():
    np.testing.assert_array_equal(history.filled(3, 2), [False, True, True])
    np.testing.assert_array_equal(history.filled(3, 5), [True, True, True])


@pytest.mark.parametrize("count", [1, 2, 5, SIZE])
def test_mean_and_difference_error(count):
    values = np.float32(noise(count))
    np.testing.assert_allclose(history.mean(*padded(values)), values.mean(), rtol=1e-6)
    expected = np.sqrt(np.mean(np.diff(values) ** 2) / 2) if count > 1 else 0
    np.testing.assert_allclose(
        history.difference_error(*padded(values)), expected, rtol=1e-5
    )


@pytest.mark.parametrize("count", [1, 2, 5, SIZE])
@pytest.mark.parametrize("decimals", [0, 9])
def test_median_and_mean_without_largest(count, decimals):
    """Of rounded values too, among which there are equal ones."""
    values = np.float32(np.round(noise(count), decimals))
    np.testing.assert_array_equal(history.median(jnp.array(values)), np.median(values))
    if count > 1:
        expected = np.sort(values)[:-1].mean()
        found = history.mean_without_largest(jnp.array(values))
        np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_an_empty_history_has_no_statistics():
    empty = padded([])
    assert history.mean(*empty) == 0
    assert history.difference_error(*empty) == 0
    assert slope_test(*empty) == 0


@pytest.mark.parametrize("count", [3, 5, 8, SIZE])
@pytest.mark.parametrize("trend", [0.0, -0.5, 2.0])
def test_slope(count, trend):
    values = noise(count, seed=count) + trend * np.arange(count)
    z = slope_reference(np.float64(np.float32(values)))
    tested = slope_test(*padded(values))
    np.testing.assert_allclose(tested, z, rtol=1e-4)


@pytest.mark.parametrize(("count", "error"), [(5, 0.1), (8, 0.02), (SIZE, 0.01)])
@pytest.mark.parametrize("trend", [0.1, 0.3, 0.5])
def test_the_score_errs_a_little_on_the_cautious_side(count, error, trend):
    values = noise(count, seed=count) + trend * np.arange(count)
    line = scipy.stats.linregress(np.arange(count), values)
    exact = scipy.stats.norm.isf(line.pvalue / 2) * np.sign(line.slope)
    assert 0 < exact < 4
    assert exact - error < slope_test(*padded(values)) < exact + 1e-3


def test_fewer_than_three_or_equal_entries_have_no_slope():
    for values in ([1.0], [1.0, 2.0], np.full(9, 0.1), np.full(9, -3e36)):
        assert slope_test(*padded(values)) == 0


@pytest.mark.parametrize("factor", [2.0**-100, 2.0**100])
def test_the_slope_test_neither_overflows_nor_vanishes(factor):
    values = noise(9) - 0.3 * np.arange(9)
    expected = slope_test(*padded(values))
    scaled = slope_test(*padded(values * factor))
    assert scaled == expected


def test_statistics_of_the_largest_metrics_are_finite():
    largest = padded(1e37 * (-1.0) ** np.arange(SIZE))
    assert np.isfinite(history.mean(*largest))
    assert np.isfinite(history.difference_error(*largest))
    assert np.isfinite(slope_test(*largest))


def test_rounding_is_no_trend():
    one_bit = np.float32(1000) + np.float32(2**-14) * np.arange(8, dtype=np.float32)
    assert abs(slope_test(jnp.asarray(one_bit), jnp.int32(8))) < 3.29
    assert slope_test(jnp.arange(8.0), jnp.int32(8)) > 10
