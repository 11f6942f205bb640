"""The state features: against a slow reference, and what they must not depend on."""

import math

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from optax_adaptive.controllers.learned import (
    feature_memory,
    gap_features,
    state_features,
)
from tests.helpers.observations import observation
from tests.helpers.streams import STREAMS
from tests.references.features_reference import FeaturesReference
from tests.references.windows_reference import Window, windows_reference

WINDOW = 8
TOTAL_STEPS = 120  # fewer than a stream has


def observe(window, log_scale):
    """The window as a rule is shown it."""
    known = min(len(window.means), WINDOW)

    def buffer(entries):
        padded = np.zeros(WINDOW, np.float32)
        padded[WINDOW - known :] = entries[-WINDOW:]
        return padded

    return observation(
        WINDOW,
        step=window.step,
        value=window.value,
        history=buffer(window.means),
        mask=np.arange(WINDOW) >= WINDOW - known,
        standard_error=buffer(window.errors),
        log_scale=log_scale,
    )


@jax.jit
def advance(memory, observation, action):
    memory = feature_memory.remember(memory, observation)
    row = state_features.features(memory, observation, TOTAL_STEPS)
    return memory._replace(previous_action=action), row


@jax.jit
def advance_anytime(memory, observation):
    memory = feature_memory.remember(memory, observation)
    return memory, state_features.features(memory, observation)


def rows_of(values, accumulation_size=1, offset=0.0):
    """Features of each window, the rate rising and falling meanwhile."""
    memory, rows = feature_memory.first_memory(), []
    for k, window in enumerate(windows_reference(values, accumulation_size)):
        action = np.float32(math.sin(k))
        log_scale = offset + 3 * math.sin(k / 5)
        memory, row = advance(memory, observe(window, log_scale), action)
        rows.append(row)
    return np.array(rows)


@pytest.mark.parametrize("accumulation_size", [1, 3])
@pytest.mark.parametrize("stream", STREAMS)
def test_matches_the_reference(stream, accumulation_size):
    reference = FeaturesReference(TOTAL_STEPS)
    rows = rows_of(STREAMS[stream], accumulation_size)
    windows = windows_reference(STREAMS[stream], accumulation_size)
    for k, (window, row) in enumerate(zip(windows, rows, strict=True)):
        expected = reference(window, 3 * math.sin(k / 5))
        reference.action = math.sin(k)
        (*others, above, below) = row  # the averaging gap is not measured here
        assert above == below == 0
        np.testing.assert_allclose(
            others, expected, rtol=2e-3, atol=2e-3, err_msg=str(k)
        )


def test_the_averaging_gap_is_seen_anew_after_a_blow_up():
    memory, rows = feature_memory.first_memory(), []
    for value in [*np.linspace(4.0, 2.0, 20), math.inf, *np.linspace(3.0, 2.0, 12)]:
        window = observe(Window(value, [value], [0.01], step=0), log_scale=0.0)
        window = window._replace(
            averaging_gap=np.float32(0.3), has_averaging_gap=np.bool_(True)
        )
        memory, row = advance_anytime(memory, window)
        rows.append(row[-gap_features.SIZE :])
    is_known = np.any(np.array(rows) != 0, axis=1)
    # Twelve windows are needed; the blow-up itself is the 21st.
    np.testing.assert_array_equal(is_known, 11 * [0] + 10 * [1] + 11 * [0] + [1])


def test_a_run_by_hand():
    # Loss 4, 4, 2 with a standard error of 0.1: beyond doubt a descent, by 20 errors.
    memory = feature_memory.first_memory()
    for k, value in enumerate([4.0, 4.0, 2.0, math.inf]):
        means = [4.0, 4.0, 2.0][: k + 1]
        window = Window(value, means, [0.1] * len(means), step=len(means) - 1)
        window = observe(window, log_scale=-1.0)
        memory, row = advance_anytime(memory, window)
        if k == 2:
            seen = dict(zip(state_features.NAMES, row.tolist(), strict=True))
    by_hand = {
        "jump": -math.log1p(2 / 0.1 / math.sqrt(2)) / 2,
        "trend": -math.log1p(3 * (0.8 - 0.2) / 2.2),
        "regress": 0.0,
        "signal": math.log1p(20) / 4,
        "has_descended": 1.0,
        "since_best": 0.0,
        "age": math.log1p(3) / 3,
        "has_total_steps": 0.0,
        "above_progress": 0.0,
        "near_blow_up": 0.0,
    }
    for name, expected in by_hand.items():
        assert seen[name] == pytest.approx(expected, abs=1e-5), name
    assert row[state_features.NAMES.index("is_blown_up")] == 1
    assert row[state_features.NAMES.index("near_blow_up")] == 1
    np.testing.assert_array_equal(row[9:12], 0)


def test_noise_is_no_descent():
    for seed in range(20):
        values = 1 + np.random.default_rng(seed).normal(0, 0.1, 400)
        assert not rows_of(values, 10)[:, 6].any()


@given(exponent=st.integers(-30, 30), stream=st.sampled_from(list(STREAMS)))
def test_the_unit_of_the_loss_does_not_matter(exponent, stream):
    values = STREAMS[stream]
    scaled = values * np.float32(2.0**exponent)  # powers of two round nothing
    np.testing.assert_array_equal(rows_of(scaled, 3), rows_of(values, 3))


@pytest.mark.parametrize("shift", [-7.0, 50.0])
@pytest.mark.parametrize("stream", STREAMS)
def test_a_constant_added_to_the_loss_does_not_matter(stream, shift):
    values = np.float64(STREAMS[stream])
    rows = rows_of(values, 3)
    np.testing.assert_allclose(rows_of(values + shift, 3), rows, atol=5e-3)


def test_the_base_rate_does_not_matter():
    values = STREAMS["holes"]
    np.testing.assert_allclose(rows_of(values, 3, -9.0), rows_of(values, 3), atol=1e-5)


@given(
    st.lists(
        st.floats(-(2.0**122), 2.0**122, width=32) | st.just(math.inf), max_size=40
    )
)
def test_any_stream_gives_finite_features(values):
    rows = rows_of(np.float32(values))
    assert np.all(np.abs(rows) <= 4)  # NaN compares false


def test_debug_nans_finds_none():
    with jax.debug_nans(True):
        for values in ([0.0] * 12, [math.inf] * 5, [1e37, -1e37] * 5):
            assert np.isfinite(rows_of(np.float32(values))).all()
