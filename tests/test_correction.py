"""How far what noise costs, and what is still won, move a rate that is held."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optax_adaptive import _correction

STEPS = 2000
FIRST_LOSS, NOISE = 3.0, 0.3


@partial(jax.jit, static_argnames="noise")
def corrections(
    losses, products, is_sample=True, first_loss=FIRST_LOSS, noise=NOISE, way_back=0.0
):
    """Log factors, half-lives, is the average behind, way back, does it fall fast."""

    def step(state, row):
        value, product, way_back, elapsed, is_sample = row
        state, judgement = _correction.watch(
            *(state, value, product, way_back, elapsed, first_loss, noise),
            is_sample=is_sample,
            high=_correction.HIGH,
        )
        return state, (
            judgement.log_factor,
            *(state.half_life, state.is_behind, judgement.leads_back),
            judgement.is_fast,
        )

    losses = jnp.asarray(losses, jnp.float32)
    rows = (
        losses,
        jnp.broadcast_to(jnp.asarray(products, jnp.float32), losses.shape),
        jnp.broadcast_to(jnp.asarray(way_back, jnp.float32), losses.shape),
        jnp.arange(1, len(losses) + 1, dtype=jnp.int32),
        jnp.broadcast_to(jnp.asarray(is_sample), losses.shape),
    )
    return jax.lax.scan(step, _correction.first_correction(), rows)[1]


def changed(*args, **kwargs):
    """Where a correction is made, and by which factors."""
    log_factors = np.asarray(corrections(*args, **kwargs)[0])
    where = np.flatnonzero(log_factors)
    return where, np.exp(log_factors[where])


def noise(seed, steps=STEPS):
    return np.random.default_rng(seed).normal(0, NOISE, steps)


@pytest.mark.parametrize(
    ("ratio", "factor"),
    [
        (-1.0, _correction.HIGHEST),
        (0.0, _correction.HIGHEST),
        (_correction.LOW / 2, 2.0**_correction.POWER),
        (_correction.LOW * 1.02, 1.0),
        (_correction.HIGH * 0.98, 1.0),
        (_correction.HIGH * 2, 2.0**-_correction.POWER),
        (1e9, _correction.LOWEST),
    ],
)
@pytest.mark.parametrize("offset", [0.0, -90.0])
def test_a_rate_moves_to_the_nearer_bound(ratio, factor, offset):
    """Of cost over fall, whatever the level of the loss."""
    steps = np.arange(1, 160)
    losses = FIRST_LOSS - 1.0 - 0.01 * steps
    fall = 0.01 * 80  # from one block of 40 to the last but one
    where, made = changed(losses + offset, ratio * fall, first_loss=FIRST_LOSS + offset)
    assert where.tolist() == ([] if factor == 1.0 else [3 * _correction.SHORTEST - 1])
    np.testing.assert_allclose(made, factor, rtol=0.04)


@pytest.mark.parametrize(("times", "expected"), [(8.0, False), (12.0, True)])
@pytest.mark.parametrize("offset", [0.0, -90.0])
def test_a_loss_is_fast_that_falls_tenfold(times, expected, offset):
    """From one block to the last but one; far below 0 nothing falls tenfold."""
    losses = np.where(np.arange(1, 121) <= _correction.SHORTEST, times, 1.0)
    is_fast = corrections(losses + offset, 0.0, first_loss=30.0 + offset)[4]
    assert is_fast[-1] == (expected and not offset)


@pytest.mark.parametrize(
    ("part", "expected"), [(-1.0, True), (-0.22, True), (-0.18, False), (1.0, False)]
)
@pytest.mark.parametrize("offset", [0.0, -90.0])
def test_a_way_back_leads_down_by_a_part_of_what_was_won(part, expected, offset):
    losses = FIRST_LOSS - 1.0 - 0.01 * np.arange(1, 160)
    won = 1.0 + 0.01 * 100  # by the middle of the third block
    leads_back = corrections(
        losses + offset, 0.0, way_back=part * won, first_loss=FIRST_LOSS + offset
    )[3]
    judged = [3 * _correction.SHORTEST - 1]
    assert np.flatnonzero(leads_back).tolist() == (judged if expected else [])


def test_a_way_that_has_won_nothing_leads_back_wherever_that_is_down():
    losses = FIRST_LOSS + 1.0 + 0.01 * np.arange(1, 160)
    assert np.any(corrections(losses, 0.0, way_back=-1e-3)[3])
    assert not np.any(corrections(losses, 0.0, way_back=1e-3)[3])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(("others", "expected"), [(-2.0, True), (2.0, False)])
def test_a_product_that_is_not_finite_leaves_the_others_to_say(bad, others, expected):
    losses = FIRST_LOSS - 1.0 - 0.01 * np.arange(1, 130)
    for place in ("way_back", "product"):
        products = {"way_back": np.full(129, others), "product": np.zeros(129)}
        products[place][100] = bad
        leads_back = corrections(
            losses, products["product"], way_back=products["way_back"]
        )[3]
        assert np.any(leads_back) == expected


@pytest.mark.parametrize(
    ("ratio", "expected"), [(-1.0, True), (0.1, True), (0.15, False), (1.0, False)]
)
def test_an_average_is_behind_where_noise_costs_less_than_its_lag(ratio, expected):
    losses = FIRST_LOSS - 1.0 - 0.01 * np.arange(1, 160) + 1e-4 * noise(0, 159)
    # The error of a mean here is that of the trend within a block, 2% of the fall.
    is_behind = np.asarray(corrections(losses, ratio * 0.01 * 80)[2])
    assert not is_behind[: 3 * _correction.SHORTEST - 1].any()
    assert is_behind[-1] == expected


def test_noise_in_the_fall_leaves_the_average_alone():
    assert not np.asarray(corrections(1.0 + noise(0), NOISE / 10)[2]).any()


def test_blocks_of_a_loss_at_rest_lower_again_and_again_ever_more_rarely():
    where, made = changed(1.0 + noise(0) / 10, 1.0)
    # Three blocks of 40, and from then on blocks of a quarter of the elapsed time.
    assert where[0] == 3 * _correction.SHORTEST - 1
    assert (made < 1.0).all() and (np.diff(where[1:]) > 0.2 * where[1:-1]).all()


def test_a_loss_at_rest_is_no_reason_where_noise_costs_nothing():
    """Noise hides a slow descent: a good rate must not come down by chance."""
    made = [changed(1.0 + noise(seed) / 10, 0.0)[1] for seed in range(20)]
    lowered = np.count_nonzero(np.concatenate(made) < 1.0)
    # Of nine blocks judged in each, one in 44 is expected.
    assert lowered <= 0.1 * 20 * 9


def test_a_rise_lowers_all_the_way_whatever_noise_costs():
    losses = 1.0 + 0.01 * np.arange(STEPS) / 10 + noise(0) / 10
    _, made = changed(losses, -1.0)
    np.testing.assert_allclose(made[-1], _correction.LOWEST, rtol=1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_a_slow_descent_is_not_lowered(seed):
    falling = 2.0 * np.arange(1, STEPS + 1) ** -0.25
    # At the best rate noise costs about what falls from a block to the last but one.
    cost = 0.7 * (1.0 - 1.78**-0.25) * falling
    assert (changed(falling + noise(seed) / 4, cost)[1] >= 1.0).all()


@pytest.mark.parametrize("seed", range(5))
def test_a_loss_that_has_not_moved_yet_is_waited_for(seed):
    losses = FIRST_LOSS + noise(seed)
    assert not len(changed(losses, 1.0)[0])


def test_what_is_not_sampled_or_not_finite_does_not_count():
    losses = 2.0 - 0.002 * np.arange(200)
    is_sample = np.arange(200) % 4 == 0
    products = np.where(is_sample, 0.5 * 0.002 * 80, np.inf)
    assert not len(changed(losses, products)[0])
    products[~is_sample] = -9.0
    assert not len(changed(losses, products, is_sample)[0])
    assert not len(changed(losses, -1.0, False)[0])


@pytest.mark.parametrize(
    ("ratio", "factor"),
    [(-1.0, 0.5), (0.0, 0.5), (0.5, 0.5**0.5), (1.0, 1.0), (2.0, 2.0**0.5), (1e9, 2.0)],
)
def test_averages_are_longer_where_noise_costs_more_than_is_won(ratio, factor):
    losses = FIRST_LOSS - 1.0 - 0.01 * np.arange(160)
    half_lives = np.asarray(corrections(losses, ratio * 0.01 * 80)[1])
    judged = 3 * _correction.SHORTEST - 1
    assert (half_lives[:judged] == 1.0).all()
    np.testing.assert_allclose(half_lives[judged:], factor, rtol=1e-3)


@pytest.mark.parametrize(("cost", "factor"), [(1.0, 2.0), (-1.0, 0.5)])
def test_averages_of_a_loss_that_rises(cost, factor):
    losses = 1.0 + 0.001 * np.arange(160)
    assert corrections(losses, cost)[1][-1] == factor


def test_blocks_match_a_reference():
    losses = np.float32(1.0 + noise(3) / 3)
    where, made = changed(losses, 0.1)
    blocks, want, block = [], [], []
    for elapsed, value in enumerate(losses.astype(np.float64), start=1):
        block.append(value)
        if len(block) < max(0.25 * elapsed, 40):
            continue
        blocks.append((np.mean(block), np.std(block, ddof=1) / len(block) ** 0.5))
        block = []
        if len(blocks) < 3:
            continue
        (old, old_error), _, (new, new_error) = blocks[-3:]
        most = old - new + 2.0 * np.hypot(old_error, new_error)
        if most < 0.1:
            factor = max((most / 0.1) ** 0.5, 0.1) if most > 0 else 0.1
            want.append((elapsed - 1, factor))
    assert want
    assert where.tolist() == [when for when, _ in want]
    np.testing.assert_allclose(made, [factor for _, factor in want], rtol=1e-3)
