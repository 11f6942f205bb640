"""The hold: rates that prove too high start over, early on, and come down later."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optax_adaptive import _hold

FIRST_LOSS, NOISE, PROBATION = 10.0, 0.01, 250


def hold(losses, cost=0.0, probation=PROBATION, way_back=0.0, has_noise=True):
    """The holds and steps after each of the losses, where noise costs so much."""

    def step(state, row):
        value, product = row
        new, done = _hold.advance(
            state,
            value,
            product,
            way_back,
            FIRST_LOSS,
            NOISE,
            has_noise=has_noise,
            probation=probation,
            high=1.0,
        )
        return new, (new, done)

    losses = jnp.asarray(losses, jnp.float32)
    rows = (losses, jnp.broadcast_to(jnp.float32(cost), losses.shape))
    return jax.lax.scan(step, _hold.first_hold(), rows)[1]


def noisy(levels):
    return levels + NOISE * np.random.default_rng(0).normal(size=len(levels))


def falling(steps):
    """By 0.8 from a block of 40 to the last but one."""
    return noisy(9.0 - 0.01 * np.arange(steps))


def test_a_rate_that_fails_early_starts_over():
    holds, steps = hold(falling(200), cost=3.2)
    (when,) = np.flatnonzero(steps.is_restored)
    assert 100 <= when < 150
    assert not steps.is_taken[: when + 1].any() and not steps.is_blown_up.any()
    assert holds.elapsed[when] == 0 and holds.correction.blocks[when] == 0
    lowered = holds.log_factor[when : when + 2]
    np.testing.assert_allclose(lowered, math.log(0.5), rtol=0.05)


def test_a_rate_from_which_the_way_back_leads_down_starts_over_at_less():
    holds, steps = hold(falling(130), way_back=-3.0)
    assert np.flatnonzero(steps.is_restored).tolist() == [119]
    lowered = holds.log_factor[-1]
    np.testing.assert_allclose(lowered, math.log(_hold.BACK_TO), rtol=1e-5)
    holds, steps = hold(falling(600), way_back=-3.0, probation=100)
    assert not steps.is_restored.any() and not (holds.log_factor < 0.0).any()


@pytest.mark.parametrize(("better_by", "times"), [(2.0, 2), (-0.1, 1)])
def test_it_starts_over_again_only_if_that_led_to_a_lower_loss(better_by, times):
    losses = np.concatenate([falling(120), falling(130) - better_by])
    _, steps = hold(losses, way_back=-3.0)
    assert np.flatnonzero(steps.is_restored).tolist() == [119, 239][:times]


@pytest.mark.parametrize(
    ("cost", "probation", "factor"),
    [(1.2, PROBATION, (0.8 / 1.2) ** 0.5), (3.2, 0, 0.5), (3.2, 60, 0.5)],
)
def test_a_rate_a_little_too_high_does_not_nor_does_a_short_run(
    cost, probation, factor
):
    holds, steps = hold(falling(140), cost, probation)
    np.testing.assert_allclose(np.exp(holds.log_factor[-1]), factor, rtol=0.05)
    assert not steps.is_restored.any()


def test_a_plateau_later_on_is_no_reason_to_start_over():
    losses = np.maximum(falling(1500), noisy(np.full(1500, 5.0)))
    holds, steps = hold(losses, cost=0.5)
    assert holds.log_factor[-1] < 0.0
    assert (np.diff(holds.log_factor) > math.log(0.9 * _hold.LOWEST_GOING_ON)).all()
    assert not steps.is_restored.any()
    first_copy = np.flatnonzero(steps.is_taken)[0]
    assert holds.elapsed[first_copy] > PROBATION


def test_a_blow_up_early_on_leads_to_the_start():
    losses = noisy(np.linspace(9.0, 8.0, 180))
    losses[100:103] = np.inf
    _, steps = hold(losses)
    assert steps.is_blown_up[101] and steps.is_restored[101]
    assert not steps.is_taken.any()


def test_after_a_blow_up_the_rate_comes_back_over_ten_steps():
    losses = falling(340)
    losses[300:302] = np.inf
    holds, steps = hold(losses)
    parts = jax.vmap(_hold.returned)(holds)
    assert steps.is_blown_up[301]
    np.testing.assert_array_equal(parts[:301], 1.0)
    np.testing.assert_allclose(parts[302:312], np.arange(1, 11) / 10)
    np.testing.assert_array_equal(parts[312:], 1.0)


@pytest.mark.parametrize("probation", [60, PROBATION])
def test_a_rate_is_not_raised_before_it_may_prove_too_high(probation):
    holds, _ = hold(falling(400), probation=probation)
    (first, *_) = np.flatnonzero(holds.log_factor > 0.0)
    assert holds.elapsed[first] > _hold.EARLY


def test_without_noise_a_rate_rises_at_once_while_the_loss_still_falls():
    losses = 0.01 + 9.0 * 0.98 ** np.arange(1500)
    holds, steps = hold(losses, has_noise=False)
    when = np.flatnonzero(np.diff(holds.log_factor) > 0.0) + 1
    assert when[0] == 119 and steps.is_taken[when].all()
    assert len(when) > 4 and when[-1] < 1000  # the last block but one ends within 5%


def test_with_noise_a_rate_does_not_rise_where_the_loss_falls_tenfold():
    holds, _ = hold(9.0 * 0.97 ** np.arange(900))
    assert not (holds.log_factor > 0.0).any()


def test_a_rate_that_came_down_is_not_raised():
    cost = np.where(np.arange(900) < 600, 5.0, 0.0)
    holds, _ = hold(falling(900), cost, probation=0)
    down = np.flatnonzero(holds.log_factor < 0.0)
    assert len(down) and (np.diff(holds.log_factor[down[0] :]) <= 0.0).all()


def test_a_raise_that_blows_up_is_undone_and_not_tried_again():
    losses = falling(900)
    holds, steps = hold(losses, probation=60)
    (first, *_) = np.flatnonzero(holds.log_factor > 0.0)
    assert not steps.is_taken[first + 1 : first + 90].any()
    losses[first + 20 : first + 22] = np.inf
    holds, steps = hold(losses, probation=60)
    assert steps.is_taken[first] and steps.is_restored[first + 21]
    after = holds.log_factor[first + 21 :]
    assert after[0] <= holds.log_factor[first - 1]
    assert (np.diff(after) <= 0.0).all()


@pytest.mark.parametrize(("cost", "sign"), [(0.0, 1), (0.6, 0), (1.5, -1)])
def test_a_rate_follows_what_noise_costs(cost, sign):
    holds, steps = hold(falling(300), cost)
    assert np.sign(holds.log_factor[-1]) == sign
    assert not steps.is_restored.any()


@pytest.mark.parametrize(
    ("total_steps", "expected"), [(None, 250), (200, 50), (2000, 250), (10**6, 250)]
)
def test_probation(total_steps, expected):
    assert _hold.probation(total_steps) == expected
