"""range_test against a slow reference, and what must and must not end it."""

import numpy as np
import pytest

from optax_adaptive import controllers, lr_scale, scale_by_controller
from tests.helpers.follow import follow
from tests.references.range_test_reference import range_test_reference
from tests.references.windows_reference import assert_follows


def scales_of(values, accumulation_size=5, **settings):
    tx = scale_by_controller(
        controllers.range_test(**settings), accumulation_size=accumulation_size
    )
    return np.asarray(follow(tx)(np.float32(values))[0])


@pytest.mark.parametrize(
    "settings", [dict(start=1e-3), dict(start=0.1, growth=1.2, backoff=2.0, stop=10.0)]
)
def test_matches_the_reference(settings):
    tx = scale_by_controller(controllers.range_test(**settings), accumulation_size=5)
    assert_follows(tx, lambda: range_test_reference(**settings), 5, settings["start"])


@pytest.mark.parametrize("seed", range(5))
def test_noise_cannot_end_what_has_not_begun(seed):
    noise = np.random.default_rng(seed).normal(2.3, 0.3, 100)
    climbed = scales_of(noise, start=1e-9, stop=1e5)
    assert np.all(np.diff(climbed) >= 0)
    assert climbed[-1] > 0.1  # twenty windows, half a decade each


def loss_at(scale, rng):
    """Nothing happens below 1e-2; it descends up to 10 and blows up above."""
    descent = np.clip(np.log10(max(scale, 1e-30)) + 2, 0, 3)
    rise = 5 * max(np.log10(max(scale, 1e-30)) - 1, 0)
    return 3 - 0.8 * descent + rise + rng.normal(0, 0.05)


@pytest.mark.parametrize("start", [1e-9, 1e-5, 1e-3])
def test_finds_the_largest_stable_rate_from_any_start(start):
    rng = np.random.default_rng(0)
    tx = scale_by_controller(controllers.range_test(start=start), accumulation_size=5)
    run, state = follow(tx), None
    scale = start
    for _ in range(60):
        values = np.float32([loss_at(scale, rng) for _ in range(5)])
        _, state = run(values, state) if state is not None else run(values)
        scale = float(lr_scale(state))
    assert 1 <= scale <= 10
    largest, state = run(np.full(5, 1e6, np.float32), state)
    assert largest[-1] == np.float32(scale)  # it is over: nothing moves it


def test_a_window_without_a_finite_value_ends_it():
    values = np.full(30, 2.0)
    values[10:15] = np.nan
    scales = scales_of(values)
    assert scales[14] == pytest.approx(scales[9] / 8, rel=1e-5)
    np.testing.assert_array_equal(scales[15:], scales[14])


@pytest.mark.parametrize("stop", [1e5, 4.9, 0.1402943])  # two lose a bit in exp and log
def test_it_ends_at_the_stop(stop):
    scales = scales_of(np.ones(400, np.float32), stop=stop, backoff=2.0)
    np.testing.assert_allclose(scales[-1], stop / 2.0, rtol=1e-4)
