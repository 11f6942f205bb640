"""The reward that the learners share, against a slow reference and by hand."""

import jax
import numpy as np
import pytest

from optax_adaptive.controllers.online import _block_reward
from optax_adaptive.controllers.online.settings import DEFAULTS
from tests.helpers.observations import observation


def shown(value, error=0.1, validation=None):
    """Of four windows alike."""
    return observation(
        4,
        value=value,
        history=np.full(4, value),
        mask=np.ones(4),
        standard_error=np.full(4, error),
        validation=0.0 if validation is None else validation,
        is_validated=validation is not None,
    )


@jax.jit
def read(block, window):
    return _block_reward.add_window(block, window, DEFAULTS)


@jax.jit
def close(block):
    return _block_reward.close(block, DEFAULTS)


def is_over(block, size):
    return _block_reward.is_over(block, size, DEFAULTS)


def play(block, windows):
    for window in windows:
        block = read(block, window)
    return close(block)


def block_reference(blocks):
    """Rewards of blocks of (value, error) pairs, as the equations have them."""
    expected, before, rewards = None, None, []
    for index, block in enumerate(blocks, 1):
        (first, first_error), (last, last_error) = block[0], block[-1]
        decrease = first - last
        reward = 0.0
        if expected is not None:
            surplus = (decrease - expected / index) / np.hypot(first_error, last_error)
            reward = np.clip(surplus, -3, 3)
        if before is not None:
            rise = (last - before[0]) / np.hypot(before[1], last_error)
            reward -= rise > 2.5
        target = decrease * index
        expected = target if expected is None else 0.7 * expected + 0.3 * target
        rewards.append(reward)
        before = block[-1]
    return rewards


def test_matches_the_reference():
    rng = np.random.default_rng(0)
    values = 2 + 3 / (1 + np.arange(80) / 8) + rng.normal(0, 0.1, 80)
    pairs = list(zip(values, rng.uniform(0.05, 0.2, 80), strict=True))
    blocks = [pairs[i : i + 4] for i in range(0, 80, 4)]
    state, rewards = _block_reward.first_block(), []
    for block in blocks:
        reward, state = play(state, [shown(*pair) for pair in block])
        rewards.append(float(reward))
    expected = block_reference(blocks)
    np.testing.assert_allclose(rewards, expected, rtol=1e-3, atol=1e-4)
    assert np.min(expected) < -1 and np.max(expected) > 0.5


def test_by_hand():
    # The first block falls by 0.2. The second may expect 0.2 / 2 = 0.1, and
    # falls by 0.3: 0.2 more, in units of sqrt(0.06² + 0.08²) = 0.1.
    state = _block_reward.first_block()
    reward, state = play(state, [shown(2.0), shown(1.8)])
    assert float(reward) == 0
    windows = [shown(1.7, 0.06), shown(1.4, 0.08)]
    assert float(play(state, windows)[0]) == pytest.approx(2.0, rel=1e-5)


def test_the_change_of_rate_itself_earns_nothing():
    state = _block_reward.first_block()
    _, state = play(state, [shown(2.0)] * 2)
    # Cooled at once from 2 to 1, and flat thereafter.
    assert float(play(state, [shown(1.0)] * 4)[0]) == 0


def test_a_rise_ends_a_block_and_costs():
    state = _block_reward.first_block()
    _, state = play(state, [shown(2.0)] * 2)
    state = read(state, shown(2.0 + 2.4 * np.sqrt(0.02)))
    assert not is_over(state, 4)
    state = read(state, shown(2.0 + 2.6 * np.sqrt(0.02)))
    assert is_over(state, 4)
    reward, _ = close(state)
    assert float(reward) == pytest.approx(-0.2 - 1, rel=1e-4)


def test_a_blow_up_ends_a_block_and_costs_more():
    state = _block_reward.first_block()
    _, state = play(state, [shown(2.0)] * 2)
    state = read(read(state, shown(2.0)), shown(np.inf))
    assert is_over(state, 4)
    assert float(close(state)[0]) == pytest.approx(-11)


def test_validation_alone_is_rewarded_once_there_is_any():
    state = _block_reward.first_block()
    _, state = play(state, [shown(9.0, validation=5.0)] * 2)
    # From one validation to the next: 5, 4 (expected from then on), then 2.
    _, state = play(state, [shown(2.0), shown(2.0, validation=4.0)])
    state = read(read(state, shown(0.0)), shown(1.0))
    assert not is_over(state, 2)  # the block waits for a validation
    state = read(state, shown(0.0, validation=2.0))
    assert is_over(state, 2)
    # Falls of 0 and 1 by index 1 and 2: expected 0.3 * 2 / 3 = 0.2 of a fall of 2.
    # Changes of 0, 1, 2: noise 0, then 0.2, then 0.56; errors 0.2 and 0.56.
    reward, _ = close(state)
    changes = [0.0, 0.0 + 0.2 * 1.0]
    noise = [changes[1], changes[1] + 0.2 * (2 - changes[1])]
    expected = min((2 - 0.2) / np.hypot(*noise), 3.0)
    assert float(reward) == pytest.approx(expected, rel=1e-4)


def test_a_block_does_not_wait_for_a_validation_for_ever():
    _, state = play(_block_reward.first_block(), [shown(9.0, validation=5.0)] * 2)
    for _ in range(19):
        state = read(state, shown(0.0))
    assert not is_over(state, 2)
    state = read(state, shown(0.0))
    assert is_over(state, 2)  # ten times its windows
    reward, after = close(state)
    assert float(reward) == 0  # the loss is no validation
    assert float(after.expected) == float(state.expected)


def test_a_rise_of_the_loss_ends_a_block_between_validations():
    state = _block_reward.first_block()
    _, state = play(state, [shown(2.0, validation=v) for v in (5.0, 4.9)])
    _, state = play(state, [shown(2.0, validation=v) for v in (4.7, 4.6)])
    state = read(state, shown(2.0 + 2.4 * np.sqrt(0.02)))
    assert not is_over(state, 4)
    state = read(state, shown(2.0 + 2.6 * np.sqrt(0.02)))
    assert is_over(state, 4)
    reward, state = close(state)
    assert float(reward) == -1  # nothing was handed in that could earn more
    # What is handed in next is compared with the last one before.
    state = read(read(state, shown(2.0)), shown(2.0, validation=9.0))
    assert is_over(state, 4)
    assert float(close(state)[0]) == -4


def test_a_block_that_begins_with_a_blow_up_has_nothing_to_earn():
    state = _block_reward.first_block()
    _, state = play(state, [shown(2.0)] * 2)
    state = read(state, shown(np.inf))
    assert is_over(state, 4)
    assert float(close(state)[0]) == -11


def test_the_raw_decrease_as_reward_includes_the_change_of_rate():
    settings = DEFAULTS._replace(rewards_raw_decrease=True)
    state = _block_reward.first_block()
    _, state = play(state, [shown(2.0)] * 2)
    state = read(read(state, shown(1.0)), shown(0.75))
    reward, _ = _block_reward.close(state, settings)
    assert float(reward) == 1.25
