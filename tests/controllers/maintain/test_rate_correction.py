"""How far the averaging gap, and the decrease of the loss, move a rate."""

import functools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optax_adaptive import Found, controllers, scale_by_controller
from optax_adaptive.controllers.maintain import MaintainSettings
from optax_adaptive.controllers.maintain.rate_correction import (
    Block,
    CorrectionSettings,
    propose,
)
from optax_adaptive.transforms._measured import Measured

PROPOSE = jax.jit(partial(propose, settings=CorrectionSettings()))
FIRST_LOSS, NOISE = 3.0, 0.3


def corrected(**fields):
    """Of a block with these fields, that has come down by 1 in all."""
    block = dict(mean=2.0, decrease=0.8, error=0.0, total=1.0, gap=0.4, slope=0.0)
    block = Block(**{name: jnp.float32(x) for name, x in (block | fields).items()})
    return jax.tree.map(np.asarray, PROPOSE(block))


@pytest.mark.parametrize(
    ("ratio", "factor"),
    [
        (-1.0, 2.0),  # at most twice
        (0.0, 2.0),
        (0.125, 2.0**0.5),  # the root of the ratio to the nearer bound, a quarter
        (0.255, 1.0),
        (0.98, 1.0),
        (2.0, 0.5**0.5),  # or one
        (1e9, 0.1),  # at least a tenth
    ],
)
def test_a_rate_moves_to_the_nearer_bound(ratio, factor):
    """Of gap over decrease."""
    made = np.exp(corrected(gap=0.8 * ratio).log_factor)
    np.testing.assert_allclose(made, factor, rtol=1e-3)


def test_a_decrease_may_be_larger_than_it_seems():
    made = corrected(gap=1.6, error=0.2).log_factor
    np.testing.assert_allclose(np.exp(made), ((0.8 + 2 * 0.2) / 1.6) ** 0.5, rtol=1e-5)
    assert corrected(gap=1.6, error=0.4).log_factor == 0.0


@pytest.mark.parametrize(
    ("gap", "factor"), [(-1.0, 1.0), (0.0, 1.0), (0.24, 1.0), (0.26, 0.1), (1.0, 0.1)]
)
def test_a_rise_lowers_all_the_way_where_half_of_it_is_gap(gap, factor):
    """What the average has risen by as well is none of the rate."""
    made = corrected(decrease=-0.5, error=0.2, gap=gap).log_factor
    np.testing.assert_allclose(np.exp(made), factor, rtol=1e-5)


@pytest.mark.parametrize(("gap", "expected"), [(0.019, False), (0.021, True)])
def test_a_gap_is_harmful_that_is_a_part_of_the_whole_decrease(gap, expected):
    assert corrected(decrease=0.001, gap=gap).is_harmful == expected


@pytest.mark.parametrize(("mean", "expected"), [(1.0, False), (0.7, True)])
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_loss_is_fast_that_falls_tenfold(mean, expected, sign):
    """From one block to the last but one."""
    assert corrected(mean=sign * mean, decrease=7.0).is_fast == expected


@pytest.mark.parametrize(
    ("part", "expected"), [(-1.0, True), (-0.22, True), (-0.18, False), (1.0, False)]
)
@pytest.mark.parametrize("mean", [2.0, -90.0])
def test_a_gradient_points_back_by_a_part_of_the_decrease(part, expected, mean):
    assert corrected(mean=mean, total=3.0, slope=3.0 * part).points_back == expected


def test_without_a_decrease_any_slope_below_0_points_back():
    assert corrected(total=0.0, slope=-1e-3).points_back
    assert not corrected(total=0.0, slope=1e-3).points_back


@pytest.mark.parametrize(("decrease", "expected"), [(0.05, True), (0.2, False)])
@pytest.mark.parametrize("sizes", [dict(mean=1.0), dict(mean=-90.0), dict(total=9.0)])
def test_a_loss_is_at_rest_that_falls_by_next_to_nothing(sizes, decrease, expected):
    """Of itself, and of what it has come down by."""
    block = dict(mean=1.0, total=1.0) | sizes
    assert corrected(decrease=decrease, **block).is_at_rest == expected


@pytest.mark.parametrize(
    ("ratio", "expected"), [(-1.0, True), (0.1, True), (0.15, False), (1.0, False)]
)
def test_an_average_lags_where_the_gap_is_less_than_that_costs(ratio, expected):
    assert corrected(gap=0.8 * ratio).average_lags == expected
    # Noise may be all of the decrease.
    assert corrected(gap=0.8 * ratio, error=0.4).average_lags == (ratio < 0.0)


@pytest.mark.parametrize(
    ("ratio", "factor"),
    [(-1.0, 0.5), (0.0, 0.5), (0.5, 0.5**0.5), (1.0, 1.0), (2.0, 2.0**0.5), (1e9, 2.0)],
)
def test_averages_are_longer_where_the_gap_is_larger(ratio, factor):
    np.testing.assert_allclose(corrected(gap=0.8 * ratio).half_life, factor, rtol=1e-5)


@pytest.mark.parametrize(("gap", "factor"), [(1.0, 2.0), (-1.0, 0.5)])
def test_averages_of_a_loss_that_rises(gap, factor):
    assert corrected(decrease=-0.1, gap=gap).half_life == factor


# What follows is of whole runs, by the rule that makes blocks of losses.
STEPS = 2000
EAGER = MaintainSettings(early=0, probation=0.0, lowest=1e-9)


@functools.cache
def running():
    """A jitted function of rows of (loss, gap, is it measured?, slope)."""
    rule, init = controllers.maintain(1, settings=EAGER), controllers.maintain().init
    found = Found(*map(jnp.float32, (0.0, FIRST_LOSS, NOISE)), jnp.array(True))
    rule = rule._replace(init=lambda: rule.begin(init(), found))
    tx = scale_by_controller(rule, min_scale=1e-30)

    def step(state, row):
        value, gap, has_gap, slope = row
        measured = Measured(
            averaging_gap=gap,
            has_gap=has_gap,
            value=value,
            is_new=jnp.array(True),
            return_slope=slope,
        )
        _, state = tx.update(jnp.ones(()), state, value=value, measured=measured)
        return state, state.lr_scale

    return jax.jit(lambda rows: jax.lax.scan(step, tx.init(None), rows)[1])


def changed(losses, gaps, has_gap=True, slopes=0.0):
    """Where the rate is changed, and by which factors."""
    columns = (np.float32(gaps), np.bool_(has_gap), np.float32(slopes))
    columns = [np.broadcast_to(column, len(losses)) for column in columns]
    # All runs of up to 200 steps are of 200, so that they are compiled once.
    padding = (0, max(200 - len(losses), 0))
    rows = [np.pad(row, padding, "edge") for row in (np.float32(losses), *columns)]
    scales = np.asarray(running()(tuple(rows)), np.float64)[: len(losses)]
    factors = scales[1:] / scales[:-1]
    (where,) = np.nonzero(factors != 1.0)
    return where + 1, factors[where]


def noise(seed, steps=STEPS):
    return np.random.default_rng(seed).normal(0, NOISE, steps)


@pytest.mark.parametrize(("ratio", "factor"), [(0.0, 2.0), (0.5, 1.0), (2.0, 0.5**0.5)])
@pytest.mark.parametrize("offset", [0.0, -90.0])
def test_a_rule_sets_the_gap_against_the_decrease(ratio, factor, offset):
    losses = 2.0 - 0.01 * np.arange(1, 160)
    decrease = 0.01 * 80  # from one block of 40 to the last but one
    where, made = changed(losses + offset, ratio * decrease)
    assert where.tolist() == ([] if factor == 1.0 else [119])
    np.testing.assert_allclose(made, factor, rtol=0.04)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", ["gaps", "slopes"])
def test_what_is_not_finite_leaves_the_others_to_say(bad, place):
    losses, measured = 2.0 - 0.01 * np.arange(1, 130), {"gaps": 1.6, "slopes": 0.0}
    altered = np.full(len(losses), measured[place])
    altered[100::8] = bad
    where, made = changed(losses, **measured | {place: altered})
    assert where.tolist() == [119]
    np.testing.assert_allclose(made, 0.5**0.5, rtol=0.04)


def test_blocks_of_a_loss_at_rest_lower_again_and_again_ever_more_rarely():
    where, made = changed(1.0 + noise(0) / 10, 1.0)
    # Three blocks of 40, and from then on blocks of a quarter of the elapsed time.
    assert where[0] == 119
    assert (made < 1.0).all() and (np.diff(where[1:]) > 0.2 * where[1:-1]).all()


def test_a_loss_at_rest_is_no_reason_where_there_is_no_gap():
    """Noise hides a slow descent: a good rate must not come down by chance."""
    made = [changed(1.0 + noise(seed) / 10, 0.0)[1] for seed in range(20)]
    lowered = np.count_nonzero(np.concatenate(made) < 1.0)
    # Of nine blocks judged in each, one in 44 is expected.
    assert lowered <= 0.1 * 20 * 9


@pytest.mark.parametrize("seed", range(5))
def test_a_slow_descent_is_not_lowered(seed):
    falling = 2.0 * np.arange(1, STEPS + 1) ** -0.25
    # At the best rate the gap is about the decrease from a block to the last but one.
    gap = 0.7 * (1.0 - 1.78**-0.25) * falling
    assert (changed(falling + noise(seed) / 4, gap)[1] >= 1.0).all()


def test_noise_above_all_that_the_loss_can_lose_is_no_reason_to_wait():
    where, made = changed(FIRST_LOSS + noise(0), 1.0)
    assert where[0] == 119 and made[0] < 1.0


def test_what_is_not_measured_does_not_count():
    losses = 2.0 - 0.002 * np.arange(200)
    has_gap = np.arange(200) % 4 == 0
    gaps = np.where(has_gap, 0.5 * 0.002 * 80, 9.0)
    assert not len(changed(losses, gaps, has_gap)[0])
    assert len(changed(losses, gaps)[0])
    assert not len(changed(losses, -1.0, False)[0])


def test_blocks_match_a_reference():
    losses = np.float32(1.0 + noise(3) / 3)
    where, made = changed(losses, 0.1)
    blocks, want, block, size = [], [], [], 40
    for elapsed, value in enumerate(losses.astype(np.float64), start=1):
        block.append(value)
        if len(block) < size:
            continue
        blocks.append((np.mean(block), np.std(block, ddof=1) / len(block) ** 0.5))
        block, size = [], max(int(np.ceil(elapsed / 3)), 40)
        if len(blocks) < 3:
            continue
        (old, old_error), _, (new, new_error) = blocks[-3:]
        most = old - new + 2.0 * np.hypot(old_error, new_error)
        if most < 0.1:
            factor = max((most / 0.1) ** 0.5, 0.1) if most > 0 else 0.1
            want.append((elapsed - 1, factor))
    assert want
    assert where.tolist() == [when for when, _ in want]
    # No lower than a thousandth of the first rate.
    rates = np.maximum(np.cumprod([factor for _, factor in want]), 1e-3)
    np.testing.assert_allclose(np.cumprod(made), rates, rtol=1e-3)


@pytest.mark.parametrize(("gap", "factor"), [(-0.1, 1.0), (0.0, 1.0), (1e-6, 0.1)])
def test_a_loss_that_stands_still_is_no_rise(gap, factor):
    made = corrected(decrease=0.0, error=0.0, gap=gap).log_factor
    np.testing.assert_allclose(np.exp(made), factor, rtol=1e-5)
