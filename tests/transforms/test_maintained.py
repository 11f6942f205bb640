"""maintain: rates that prove too high restart, early on, and come down later."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from optax_adaptive import (
    Found,
    controllers,
    lr_scale,
    scale_by_controller,
    with_rollback,
)
from optax_adaptive.transforms._measured import Measured

FIRST_LOSS, NOISE, MOST_STEPS = 10.0, 0.01, 1500


PROBATION, SHORT_RUN = 125, 240  # of a run of unknown length; with a probation of 60


@functools.cache
def maintaining(total_steps, has_noise):
    """A jitted function of rows of (step, loss, gap, slope)."""
    rule = controllers.maintain(total_steps)
    found = Found(0.0, FIRST_LOSS, NOISE, has_noise)
    found = Found(*map(jnp.asarray, map(np.asarray, found)))
    found = jax.tree.map(
        lambda x: x.astype(jnp.float32) if x.dtype.kind == "f" else x, found
    )
    init, params = rule.init, jnp.ones(())
    rule = rule._replace(init=lambda: rule.begin(init(), found))
    tx = with_rollback(
        optax.chain(optax.sgd(1.0), scale_by_controller(rule)),
        backoff=1.0,
        restore_inner=False,
    )

    def step(state, row):
        index, value, gap, slope = row
        measured = Measured(
            averaging_gap=gap,
            has_gap=index % 4 == 3,
            average=jnp.where(index > 0, 0.0, params),
        )
        _, state = tx.update(slope, state, params, value=value, measured=measured)
        snapshot = state.snapshot
        flags = snapshot.is_taken, snapshot.is_restored, snapshot.rollbacks
        return state, (jnp.log(lr_scale(state)), *flags)

    return jax.jit(lambda rows: jax.lax.scan(step, tx.init(params), rows)[1])


def maintained(losses, gap=0.0, total_steps=None, slope=0.0, has_noise=True):
    """By step: log factor, is a copy taken, is it gone back to, rollbacks.

    Of losses with such an averaging gap, and such a slope towards the first parameters:
    these are 1, and the average is 0 from then on.
    """
    steps = len(losses)
    padded = np.full(MOST_STEPS, losses[-1], np.float32)  # so it is compiled once
    padded[:steps] = losses
    gaps = np.full(MOST_STEPS, 0.0, np.float32)
    gaps[:steps] = gap
    slopes = np.full(MOST_STEPS, slope, np.float32)
    rows = (np.arange(MOST_STEPS, dtype=np.int32), padded, gaps, slopes)
    seen = maintaining(total_steps, has_noise)(rows)
    return [np.asarray(one)[:steps] for one in seen]


def noisy(levels):
    return levels + NOISE * np.random.default_rng(0).normal(size=len(levels))


def falling(steps):
    """By 0.8 from a block of 40 to the last but one."""
    return noisy(9.0 - 0.01 * np.arange(steps))


def where(flags):
    return np.flatnonzero(flags).tolist()


def test_a_rate_that_fails_early_restarts():
    log_scales, taken, restored, rollbacks = maintained(falling(200), gap=3.2)
    assert where(restored) == [119, 120]  # a return takes two updates
    assert where(taken) == [0] and not rollbacks.any()
    np.testing.assert_array_equal(log_scales[:119], 0.0)
    np.testing.assert_allclose(log_scales[119:], math.log(0.5), rtol=0.05)


def test_a_rate_from_which_the_gradient_points_back_restarts_at_less():
    log_scales, _, restored, _ = maintained(falling(130), slope=-3.0)
    assert where(restored) == [119, 120]
    np.testing.assert_allclose(log_scales[-1], math.log(0.4), rtol=1e-5)
    # Not after the first quarter of the run.
    log_scales, _, restored, _ = maintained(falling(600), slope=-3.0, total_steps=400)
    assert not restored.any() and not (log_scales < 0.0).any()


@pytest.mark.parametrize(("better_by", "times"), [(2.0, 4), (-0.1, 2)])
def test_it_restarts_again_only_if_that_led_to_a_lower_loss(better_by, times):
    losses = np.concatenate([falling(120), falling(130) - better_by])
    _, _, restored, _ = maintained(losses, slope=-3.0)
    # The value at 120 is that of a return, and in no block.
    assert where(restored) == [119, 120, 240, 241][:times]


@pytest.mark.parametrize(
    ("gap", "total_steps", "factor"),
    [(1.2, None, (0.8 / 1.2) ** 0.5), (3.2, 1, 0.5), (3.2, SHORT_RUN, 0.5)],
)
def test_a_rate_a_little_too_high_does_not_nor_does_a_short_run(
    gap, total_steps, factor
):
    log_scales, _, restored, _ = maintained(falling(140), gap, total_steps)
    np.testing.assert_allclose(np.exp(log_scales[-1]), factor, rtol=0.05)
    assert not restored.any()


def test_a_plateau_later_on_is_no_reason_to_restart():
    losses = np.maximum(falling(1500), noisy(np.full(1500, 5.0)))
    log_scales, taken, restored, _ = maintained(losses, gap=0.5)
    assert log_scales[-1] < 0.0
    assert (np.diff(log_scales) > -0.5 * math.log(10) - 0.1).all()
    assert not restored.any()
    assert taken[0] and where(taken)[1] >= PROBATION


def test_a_blow_up_early_on_leads_to_the_start():
    losses = noisy(np.linspace(9.0, 8.0, 180))
    losses[100:110] = losses[130:140] = np.inf
    log_scales, taken, restored, rollbacks = maintained(losses)
    assert where(restored) == [109, 110, 139, 140] and rollbacks[-1] == 2
    assert where(taken) == [0]
    # Only the second one is the rate's fault.
    np.testing.assert_allclose(np.exp(log_scales[:140]), 1.0, rtol=1e-5)
    np.testing.assert_allclose(np.exp(log_scales[143:]), 0.5, rtol=1e-5)


@pytest.mark.parametrize("total_steps", [SHORT_RUN, None])
def test_a_rate_is_not_raised_before_it_may_prove_too_high(total_steps):
    log_scales, *_ = maintained(falling(400), total_steps=total_steps)
    assert where(log_scales > 0.0)[0] >= 250


def test_without_noise_a_rate_rises_at_once_while_the_loss_still_falls():
    losses = 0.01 + 9.0 * 0.98 ** np.arange(1500)
    log_scales, taken, _, _ = maintained(losses, has_noise=False)
    raised = np.flatnonzero(np.diff(log_scales) > 0.0) + 1
    assert raised[0] == 119 and taken[raised + 1].all()  # ahead of the next update
    # The last block but one ends within 5%.
    assert len(raised) > 4 and raised[-1] < 1000


def test_with_noise_a_rate_does_not_rise_where_the_loss_falls_tenfold():
    log_scales, *_ = maintained(9.0 * 0.97 ** np.arange(900))
    assert not (log_scales > 0.0).any()


def test_a_rate_that_came_down_is_not_raised():
    gap = np.where(np.arange(900) < 600, 5.0, 0.0)
    log_scales, *_ = maintained(falling(900), gap, total_steps=1)
    down = np.flatnonzero(log_scales < 0.0)
    assert len(down) and (np.diff(log_scales[down[0] :]) <= 0.0).all()


def test_a_raise_that_blows_up_is_undone_and_not_tried_again_soon():
    losses = falling(900)
    log_scales, taken, _, _ = maintained(losses, total_steps=SHORT_RUN)
    first = where(log_scales > 0.0)[0]
    assert taken[first + 1] and not taken[first + 2 : first + 90].any()
    losses[first + 20 : first + 30] = np.inf
    log_scales, taken, restored, _ = maintained(losses, total_steps=SHORT_RUN)
    assert taken[first + 1] and restored[first + 29]
    after = log_scales[first + 33 : 2 * first]
    assert after[0] <= log_scales[first - 1] + 1e-6
    assert (np.diff(after) <= 0.0).all()


@pytest.mark.parametrize(("gap", "sign"), [(0.0, 1), (0.6, 0), (1.5, -1)])
def test_a_rate_follows_the_averaging_gap(gap, sign):
    log_scales, _, restored, _ = maintained(falling(300), gap)
    assert np.sign(log_scales[-1]) == sign
    assert not restored.any()


@pytest.mark.parametrize(
    ("total_steps", "expected"), [(None, 125), (200, 50), (2000, 125), (10**6, 125)]
)
def test_probation(total_steps, expected):
    """Meanwhile the copy is that of the parameters at which it began."""
    rule = controllers.maintain(total_steps)
    begun = rule.init()._replace(began=jnp.int32(100))
    until = [
        int(rule.request(begun._replace(elapsed=jnp.int32(at))).keep_until)
        for at in (0, expected - 1, expected)
    ]
    assert until == [100 + expected, 100 + expected, 0]
    assert int(rule.request(rule.init()).keep_until) == 2**31 - 1


@pytest.mark.parametrize(
    ("elapsed", "size"), [(0, 40), (40, 40), (120, 40), (123, 41), (3000, 1000)]
)
def test_blocks_are_a_third_of_the_steps_before_them(elapsed, size):
    rule = controllers.maintain()
    asked = rule.request(rule.init()._replace(elapsed=jnp.int32(elapsed)))
    assert int(asked.accumulation_size) == size
