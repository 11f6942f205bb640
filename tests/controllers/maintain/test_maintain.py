"""maintain against a slow reference on recorded blocks, and what it asks for."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optax_adaptive import controllers
from optax_adaptive._controller import Found
from optax_adaptive.controllers.maintain import MaintainSettings, setbacks, settings
from optax_adaptive.controllers.maintain.settings import first_state
from tests.helpers.observations import observation
from tests.references.maintain_reference import Block, MaintainReference

FOUND = (-1.0, 4.0, 0.3, True)  # log factor, first loss, its error, is it noisy?
SMOOTH = (-1.0, 4.0, 0.004, False)


def as_found(found):
    *numbers, has_noise = found
    return Found(*map(jnp.float32, numbers), jnp.array(has_noise))


def make_observe():
    """Observations of blocks, as rules are shown them."""
    means, errors = np.zeros(5, np.float32), np.zeros(5, np.float32)
    count = 0

    def observe(block, log_scale):
        nonlocal means, errors, count
        if math.isfinite(block.value):
            means = np.append(means[1:], np.float32(block.value))
            errors = np.append(errors[1:], np.float32(block.error))
            count += 1
        return observation(
            5,
            step=block.step,
            value=block.value,
            history=means,
            mask=np.arange(5) >= 5 - count,
            standard_error=errors,
            log_scale=log_scale,
            averaging_gap=block.gap or 0.0,
            has_averaging_gap=block.gap is not None,
            return_slope=block.slope,
            is_rolled_back=block.is_rolled_back,
        )

    return observe


def record(seed, is_smooth=False):
    """Blocks of a training, but for their steps: rates too low, right and too high."""
    rng = np.random.default_rng(seed)
    error = 0.001 if is_smooth else 0.05
    value, ratio = 4.0, 10.0 ** rng.uniform(-1.5, 1.0)
    for index in range(16):
        decrease = rng.uniform(-0.1, 1.0) * value / (index + 2)
        if rng.random() < 0.1:
            decrease = 0.95 * value  # by orders of magnitude
        value -= decrease
        gap = ratio * abs(decrease) * rng.uniform(0.5, 2.0) * rng.choice([1, 1, 1, -1])
        slope = rng.uniform(-0.25, 0.2) * (4.0 - value)
        is_blown_up = rng.random() < 0.03
        is_rolled_back = is_blown_up or rng.random() < 0.02
        yield Block(
            step=0,
            value=math.inf if is_blown_up or rng.random() < 0.04 else value,
            error=error * rng.uniform(0.5, 1.5),
            gap=None if rng.random() < 0.05 else gap,
            slope=slope,
            is_rolled_back=is_rolled_back,
        )


SETTINGS = [dict(), dict(total_steps=600), dict(interpolate=True)]


@pytest.mark.parametrize("kwargs", SETTINGS, ids=str)
@pytest.mark.parametrize("found", [None, FOUND, SMOOTH])
def test_matches_the_reference(kwargs, found):
    rule = controllers.maintain(**kwargs)
    update = jax.jit(rule.update)
    ask = jax.jit(rule.request)
    seen = []
    for seed in range(24):
        reference = MaintainReference(
            kwargs.get("total_steps"), found, kwargs.get("interpolate", False)
        )
        state = rule.init()
        if found:
            state = rule.begin(state, as_found(found))
        observe, log_scale, step = make_observe(), -1.0, 100 if found else 0
        for block in record(seed, is_smooth=found == SMOOTH):
            asked = ask(state)
            step += int(asked.accumulation_size)
            block = block._replace(step=step - 1)
            expected = reference(block, log_scale)
            new_log_scale, state = update(observe(block, log_scale), state)
            asked = ask(state)
            np.testing.assert_allclose(new_log_scale, expected.log_scale, atol=1e-3)
            assert bool(asked.restore) == expected.restarts
            assert bool(asked.snapshot) == expected.rises
            np.testing.assert_allclose(asked.half_life, expected.half_life, rtol=1e-3)
            assert bool(asked.average_lags) == expected.average_lags
            assert int(asked.accumulation_size) == expected.next_size
            seen.append((expected.log_scale - log_scale, expected))
            log_scale = expected.log_scale
    # The streams have led to all that there is.
    changes = [change for change, _ in seen]
    assert any(np.isclose(changes, -math.log(2), atol=1e-6))  # rolled back
    assert any(np.isclose(changes, math.log(2), atol=1e-6))  # and undone
    assert any(decided.rises for _, decided in seen)
    assert any(-1.0 < change < -0.1 for change in changes)
    assert any(decided.restarts for _, decided in seen)
    assert any(decided.average_lags for _, decided in seen)
    assert any(decided.next_size > 40 for _, decided in seen)


def run(blocks, found=FOUND, log_scale=-1.0, by_hand=(), **kwargs):
    """Log factors after each block of these numbers, and the last request.

    ``by_hand`` gives number of a block, and by how much its log factor is raised.
    """
    logs, states = followed(blocks, found, log_scale, by_hand, **kwargs)
    return logs, controllers.maintain(**kwargs).request(states[-1])


def followed(blocks, found=FOUND, log_scale=-1.0, by_hand=(), **kwargs):
    """The same, and the state after each block."""
    rule = controllers.maintain(**kwargs)
    observe, logs, states = make_observe(), [], []
    state = rule.begin(rule.init(), as_found(found))
    update, step = jax.jit(rule.update), 0
    for index, block in enumerate(blocks):
        step += int(rule.request(state).accumulation_size)
        log_scale += dict(by_hand).get(index, 0.0)
        shown = observe(block._replace(step=step - 1), log_scale)
        log_scale, state = update(shown, state)
        log_scale = float(log_scale)
        logs.append(log_scale)
        states.append(state)
    return logs, states


def block(value, gap, slope=0.0, is_rolled_back=False):
    return Block(0, value, 0.01, gap, slope, is_rolled_back)


def test_by_hand():
    # The loss falls by 0.4 in two blocks, and twice the error of that is 0.028.
    falls = [block(3.0, 0.3), block(2.8, 0.3)]
    # A gap of 1.712 is four times what it may be: at once by half, and from the start.
    logs, asked = run([*falls, block(2.6, 4 * 0.42828)])
    np.testing.assert_allclose(logs, [-1.0, -1.0, -1.0 - math.log(2)], atol=1e-3)
    assert bool(asked.restore) and int(asked.accumulation_size) == 40
    # One between the bounds says that the rate is right.
    logs, asked = run([*falls, block(2.6, 0.3)])
    np.testing.assert_allclose(logs, -1.0, atol=1e-6)
    assert not asked.restore and float(asked.half_life) == pytest.approx(0.75**0.5)


def test_a_rate_comes_down_also_where_noise_exceeds_all_that_the_loss_can_lose():
    blocks = [block(3.0, 2.0), block(3.1, 2.0), block(3.0, 2.0)]
    logs, _ = run(blocks, found=(-1.0, 4.0, 10.0, True))
    assert logs[2] < -2.0


def test_a_loss_that_says_nothing_corrects_no_rate():
    logs, _ = run(4 * [block(4.0, 2.0)._replace(error=0.0)])
    np.testing.assert_array_equal(logs, -1.0)


def test_no_rate_is_raised_early_but_where_the_loss_has_no_noise():
    blocks = [block(4.0 - 0.4 * k, 0.0001) for k in range(1, 10)]
    noisy, _ = run(blocks)
    smooth, _ = run([one._replace(error=1e-4) for one in blocks], SMOOTH)
    steps = np.cumsum([40, 40, 40, 40, 54, 72, 96, 128, 170])
    np.testing.assert_allclose(np.array(noisy)[steps <= 250], -1.0)
    assert np.max(noisy) > -1.0 + math.log(2) - 1e-3
    assert smooth[2] == pytest.approx(-1.0 + math.log(2), abs=1e-3)


def test_a_copy_is_asked_for_ahead_of_a_raise_and_kept_on_probation():
    falls = [block(4.0 - 0.4 * k, 0.0001) for k in range(1, 4)]
    _, asked = run([one._replace(error=1e-4) for one in falls], SMOOTH)
    assert bool(asked.snapshot) and int(asked.keep_until) == 125
    _, asked = run(falls)
    assert not asked.snapshot and int(asked.keep_until) == 125
    _, asked = run(falls, total_steps=300)  # the probation is over after 75
    assert int(asked.keep_until) == 0


def test_it_restarts_where_the_gradient_points_back_unless_that_was_no_cure():
    falls = [block(3.0, 0.3), block(2.8, 0.3), block(2.6, 0.3, slope=-0.4)]
    logs, asked = run(falls)
    assert logs[-1] == pytest.approx(-1.0 + math.log(0.4), abs=1e-3)
    assert bool(asked.restore)
    # The same again, from the lower rate: to a loss no lower, it was no cure.
    logs, asked = run([*falls, *falls])
    assert logs[-1] == logs[2] and not asked.restore
    better = [one._replace(value=one.value - 0.1) for one in falls]
    logs, asked = run([*falls, *better])
    assert logs[-1] < logs[2] and bool(asked.restore)


def test_a_blow_up_halves_the_rate_until_it_has_gone_well_for_as_long_again():
    falls = [block(4.0 - 0.3 * k, 0.0001) for k in range(1, 11)]
    blown_up = block(math.inf, None, is_rolled_back=True)
    logs, _ = run([*falls[:4], blown_up, *falls[4:]])
    half = -1.0 - math.log(2)
    steps = np.cumsum([40, 40, 40, 40, 54, 72, 96, 128, 170, 227, 302])
    is_soon = (steps > 160) & (steps < 2 * 214)
    np.testing.assert_allclose(np.array(logs)[is_soon], half, atol=1e-5)
    assert logs[np.argmax(steps >= 2 * 214)] == pytest.approx(-1.0, abs=1e-5)


def newest_changes(*args, **kwargs):
    _, states = followed(*args, **kwargs)
    return [settings.CHANGES[int(state.last_change)] for state in states]


def test_the_state_says_what_changed_the_rate_last():
    falls = [block(4.0 - 0.4 * k, 0.0001)._replace(error=1e-4) for k in range(1, 4)]
    # First up, then down by less than that: the newest change counts.
    told = newest_changes([*falls, block(2.4, 1.2)], SMOOTH, total_steps=40)
    raised, lowered = "raised by the rate correction", "lowered by the rate correction"
    assert told == ["", "", raised, lowered]
    falls = [block(3.0, 0.3), block(2.8, 0.3), block(2.6, 0.3, slope=-0.4)]
    assert newest_changes(falls)[-1] == "lowered by a restart"
    falls = [block(4.0 - 0.3 * k, 0.0001) for k in range(1, 11)]
    falls.insert(4, block(math.inf, None, is_rolled_back=True))
    told = [change for change in dict.fromkeys(newest_changes(falls)) if change]
    assert told[:2] == ["halved after a blow-up", "raised back since the blow-up"]


@pytest.mark.parametrize(
    ("blown_up_at", "log_scale"),
    [
        (4, -1.0),  # in the block in which it was raised
        (5, -1.0),  # or in the next one: it was raised late in the one before
        (6, 4.0 - math.log(2)),  # a whole block has gone well at the higher rate
    ],
)
def test_a_rate_raised_by_hand_that_blows_up_goes_back(blown_up_at, log_scale):
    blocks = [block(4.0 - 0.3 * k, 0.3) for k in range(1, 9)]
    blocks.insert(blown_up_at, block(math.inf, None, is_rolled_back=True))
    logs, _ = run(blocks, by_hand=[(4, 5.0)])
    np.testing.assert_allclose(logs[blown_up_at], log_scale, atol=1e-5)
    # No halving was made that would be undone.
    if log_scale == -1.0:
        np.testing.assert_allclose(logs[blown_up_at:], -1.0, atol=1e-5)


def test_after_a_search_it_goes_back_to_the_rate_found():
    blown_up = block(math.inf, None, is_rolled_back=True)
    logs, _ = run([block(3.7, 0.1), blown_up], by_hand=[(0, 5.0)])
    np.testing.assert_allclose(logs, [4.0, -1.0], atol=1e-5)


def test_a_rollback_that_is_not_the_rates_fault_changes_nothing():
    falls = [block(3.0, 0.3), block(2.9, 0.3), block(3.1, 0.3, is_rolled_back=True)]
    logs, asked = run([*falls, block(2.9, 0.3)])  # two blocks since then are too few
    assert logs == [-1.0] * 4 and not asked.restore


def test_there_is_a_floor():
    blown_up = block(math.inf, None, is_rolled_back=True)
    logs, _ = run([blown_up] * 20)
    assert logs[-1] == pytest.approx(-1.0 - math.log(1000), abs=1e-4)


def test_a_window_that_is_not_finite_is_no_rollback():
    falls = [block(3.0, 0.3), block(math.inf, None), block(2.8, 0.3)]
    logs, asked = run(falls)
    assert logs == [-1.0] * 3
    assert not asked.restore


def test_bad_input():
    with pytest.raises(ValueError, match="total_steps"):
        controllers.maintain(total_steps=0)
    with pytest.raises(ValueError, match="interpolate must be True or False"):
        controllers.maintain(interpolate=1)


def test_from_the_lowest_rate_it_does_not_restart():
    """However large the gap: it would lead to another restart, and to no other rate."""
    rule = controllers.maintain()
    found = as_found(FOUND)
    state, log_scale = rule.begin(rule.init(), found), found.log_scale
    update, observe, step = jax.jit(rule.update), make_observe(), -1
    scales, restarts = [], []
    for index in range(60):
        step += int(rule.request(state).accumulation_size)
        # Pointing back, so that it restarts wherever it may.
        block = Block(step, 3.0 - 0.001 * index, 1e-4, 1.0, -5.0, False)
        log_scale, state = update(observe(block, log_scale), state)
        scales.append(float(log_scale - found.log_scale))
        restarts.append(bool(state.restarts))
    at_floor = np.array(scales[:-1]) <= math.log(1e-3) + 1e-4
    assert any(restarts) and at_floor.any()
    assert not np.array(restarts[1:])[at_floor].any()


@pytest.mark.parametrize("elapsed", [10**6, 2**24, 2**31 - 10])
def test_a_block_is_no_longer_than_a_mean_in_float32_moves(elapsed):
    rule = controllers.maintain()
    state = rule.init()._replace(elapsed=jnp.int32(elapsed))
    size = rule.request(state).accumulation_size
    assert size.dtype == jnp.int32
    expected = min(np.ceil(np.float32(1 / 3) * np.float32(elapsed)), 2**20)
    assert abs(int(size) - expected) <= 1


def test_a_good_rate_is_kept_where_blocks_no_longer_grow():
    rule, found, observe = controllers.maintain(), as_found(FOUND), make_observe()
    state, log_scale, step = rule.begin(rule.init(), found), found.log_scale, 0
    update = jax.jit(rule.update)
    while step < 2**27:
        step += int(rule.request(state).accumulation_size)
        value, before = (4.0 * (part * step) ** -0.1 for part in (1.0, 9 / 16))
        gap = 0.6 * (before - value)  # of the decrease in two whole blocks
        block = Block(step, value, 1e-5, gap, 0.0, False)
        log_scale, state = update(observe(block, log_scale), state)
        assert log_scale == found.log_scale, step


def test_the_lowest_rate_is_not_lowered_and_leaves_nothing_to_undo():
    found = as_found(FOUND)
    state = controllers.maintain().begin(first_state(), found)
    settings = MaintainSettings()
    lowest = found.log_scale + math.log(settings.floor)
    for log_scale, backoffs in ((found.log_scale, 1), (lowest, 0)):
        after, _ = setbacks.backed_off(state, log_scale, settings)
        assert int(after.backoffs) == backoffs
