"""The hold: rates that prove too high start over, early on, and come down later."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optax_adaptive import _hold

FIRST_LOSS, NOISE, PROBATION = 10.0, 0.01, 250


def hold(losses, probation=PROBATION, ratio=0.1, is_cooling=False):
    """The holds and steps after each of the losses, at a gain of ``ratio``."""

    def step(state, value):
        new, done = _hold.advance(
            state,
            value,
            ratio * (FIRST_LOSS - value),
            FIRST_LOSS,
            NOISE,
            probation=probation,
            is_cooling=jnp.array(is_cooling),
        )
        return new, (new, done)

    _, trail = jax.lax.scan(step, _hold.first_hold(), jnp.asarray(losses, jnp.float32))
    return trail


def noisy(levels):
    return levels + NOISE * np.random.default_rng(0).normal(size=len(levels))


def test_a_rate_that_fails_early_starts_over():
    holds, steps = hold(noisy(np.full(200, 5.0)))
    (when,) = np.flatnonzero(steps.is_restored)
    assert 100 <= when < 150
    assert not steps.is_taken[: when + 1].any() and not steps.is_blown_up.any()
    assert holds.elapsed[when] == 0 and holds.descent.blocks[when] == 0
    np.testing.assert_allclose(
        holds.log_factor[when : when + 2], math.log(_hold.LOWER), rtol=1e-6
    )


@pytest.mark.parametrize("probation", [0, 60])
def test_a_short_run_has_no_time_to_start_over(probation):
    holds, steps = hold(noisy(np.full(200, 5.0)), probation)
    assert not steps.is_restored.any()
    np.testing.assert_allclose(holds.log_factor[-1], math.log(_hold.LOWER), rtol=1e-6)


def test_a_plateau_later_on_is_no_reason_to_start_over():
    falling = np.maximum(9.0 - 0.01 * np.arange(1500), 5.0)
    holds, steps = hold(noisy(falling))
    assert holds.log_factor[-1] < 0.0
    assert not steps.is_restored.any()
    first_copy = np.flatnonzero(steps.is_taken)[0]
    assert holds.elapsed[first_copy] > PROBATION


def test_a_blow_up_early_on_leads_to_the_start():
    losses = noisy(np.linspace(9.0, 8.0, 180))
    losses[100:103] = np.inf
    _, steps = hold(losses)
    assert steps.is_blown_up[101] and steps.is_restored[101]
    assert not steps.is_taken.any()


def test_a_rate_is_not_raised_before_it_may_prove_too_high():
    holds, _ = hold(noisy(np.linspace(9.0, 5.0, 400)), ratio=0.0)
    (first, *_) = np.flatnonzero(holds.log_factor > 0.0)
    assert holds.elapsed[first] > PROBATION


def test_a_rate_that_came_down_is_not_raised():
    plateau = np.linspace(9.0, 5.0, 200)[np.minimum(np.arange(600), 199)]
    again = 5.0 - 0.01 * np.arange(300)
    holds, _ = hold(noisy(np.concatenate([plateau, again])), ratio=0.0)
    down = np.flatnonzero(holds.log_factor < 0.0)
    assert len(down) and (np.diff(holds.log_factor[down[0] :]) <= 0.0).all()


@pytest.mark.parametrize(
    ("ratio", "is_cooling", "sign"),
    [(0.0, False, 1), (0.1, False, 0), (1.0, False, -1), (0.0, True, 0)],
)
def test_a_rate_follows_the_averaging_gain(ratio, is_cooling, sign):
    falling = noisy(np.linspace(9.0, 5.0, 400))
    holds, steps = hold(falling, ratio=ratio, is_cooling=is_cooling)
    assert np.sign(holds.log_factor[-1]) == sign
    assert not steps.is_restored.any()


@pytest.mark.parametrize(
    ("total_steps", "expected"), [(None, 250), (200, 25), (2000, 250), (10**6, 250)]
)
def test_probation(total_steps, expected):
    assert _hold.probation(total_steps) == expected
