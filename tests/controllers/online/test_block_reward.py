"""The reward that the learners share, against a slow reference and by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optax_adaptive import Observation
from optax_adaptive.controllers.online import _block_reward
from optax_adaptive.controllers.online.settings import DEFAULTS


def observation(value, error=0.1, validation=None):
    is_validated = validation is not None
    return Observation(
        step=jnp.zeros((), jnp.int32),
        value=jnp.float32(value),
        history=jnp.full((4,), value, jnp.float32),
        mask=jnp.ones((4,), bool),
        standard_error=jnp.full((4,), error, jnp.float32),
        validation=jnp.float32(validation if is_validated else 0.0),
        is_validated=jnp.array(is_validated),
        log_scale=jnp.zeros((), jnp.float32),
        update_size=jnp.zeros((), jnp.float32),
        gradient_size=jnp.zeros((), jnp.float32),
        displacement=jnp.zeros((), jnp.float32),
        averaging_gap=jnp.zeros((), jnp.float32),
        has_averaging_gap=jnp.zeros((), bool),
        return_slope=jnp.zeros((), jnp.float32),
        is_rolled_back=jnp.zeros((), bool),
    )


@jax.jit
def read(block, observation):
    return _block_reward.add_window(block, observation, DEFAULTS)


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
        reward, state = play(state, [observation(*pair) for pair in block])
        rewards.append(float(reward))
    expected = block_reference(blocks)
    np.testing.assert_allclose(rewards, expected, rtol=1e-3, atol=1e-4)
    assert np.min(expected) < -1 and np.max(expected) > 0.5


def test_by_hand():
    # The first block falls by 0.2. The second may expect 0.2 / 2 = 0.1, and
    # falls by 0.3: 0.2 more, in units of sqrt(0.06² + 0.08²) = 0.1.
    state = _block_reward.first_block()
    reward, state = play(state, [observation(2.0), observation(1.8)])
    assert float(reward) == 0
    windows = [observation(1.7, 0.06), observation(1.4, 0.08)]
    assert float(play(state, windows)[0]) == pytest.approx(2.0, rel=1e-5)


def test_the_change_of_rate_itself_earns_nothing():
    state = _block_reward.first_block()
    _, state = play(state, [observation(2.0)] * 2)
    # Cooled at once from 2 to 1, and flat thereafter.
    assert float(play(state, [observation(1.0)] * 4)[0]) == 0


def test_a_rise_ends_a_block_and_costs():
    state = _block_reward.first_block()
    _, state = play(state, [observation(2.0)] * 2)
    state = read(state, observation(2.0 + 2.4 * np.sqrt(0.02)))
    assert not is_over(state, 4)
    state = read(state, observation(2.0 + 2.6 * np.sqrt(0.02)))
    assert is_over(state, 4)
    reward, _ = close(state)
    assert float(reward) == pytest.approx(-0.2 - 1, rel=1e-4)


def test_a_blow_up_ends_a_block_and_costs_more():
    state = _block_reward.first_block()
    _, state = play(state, [observation(2.0)] * 2)
    state = read(read(state, observation(2.0)), observation(np.inf))
    assert is_over(state, 4)
    assert float(close(state)[0]) == pytest.approx(-11)


def test_validation_alone_is_rewarded_once_there_is_any():
    state = _block_reward.first_block()
    _, state = play(state, [observation(9.0, validation=5.0)] * 2)
    # From one validation to the next: 5, 4 (expected from then on), then 2.
    _, state = play(state, [observation(2.0), observation(2.0, validation=4.0)])
    state = read(read(state, observation(0.0)), observation(1.0))
    assert not is_over(state, 2)  # the block waits for a validation
    state = read(state, observation(0.0, validation=2.0))
    assert is_over(state, 2)
    # Falls of 0 and 1 by index 1 and 2: expected 0.3 * 2 / 3 = 0.2 of a fall of 2.
    # Changes of 0, 1, 2: noise 0, then 0.2, then 0.56; errors 0.2 and 0.56.
    reward, _ = close(state)
    changes = [0.0, 0.0 + 0.2 * 1.0]
    noise = [changes[1], changes[1] + 0.2 * (2 - changes[1])]
    expected = min((2 - 0.2) / np.hypot(*noise), 3.0)
    assert float(reward) == pytest.approx(expected, rel=1e-4)


def test_a_rise_of_the_loss_ends_a_block_between_validations():
    state = _block_reward.first_block()
    _, state = play(state, [observation(2.0, validation=v) for v in (5.0, 4.9)])
    _, state = play(state, [observation(2.0, validation=v) for v in (4.7, 4.6)])
    state = read(state, observation(2.0 + 2.4 * np.sqrt(0.02)))
    assert not is_over(state, 4)
    state = read(state, observation(2.0 + 2.6 * np.sqrt(0.02)))
    assert is_over(state, 4)
    reward, state = close(state)
    assert float(reward) == -1  # nothing was handed in that could earn more
    # What is handed in next is compared with the last one before.
    state = read(read(state, observation(2.0)), observation(2.0, validation=9.0))
    assert is_over(state, 4)
    assert float(close(state)[0]) == -4


def test_a_block_that_begins_with_a_blow_up_has_nothing_to_earn():
    state = _block_reward.first_block()
    _, state = play(state, [observation(2.0)] * 2)
    state = read(state, observation(np.inf))
    assert is_over(state, 4)
    assert float(close(state)[0]) == -11


def test_the_raw_decrease_as_reward_includes_the_change_of_rate():
    settings = DEFAULTS._replace(rewards_raw_decrease=True)
    state = _block_reward.first_block()
    _, state = play(state, [observation(2.0)] * 2)
    state = read(read(state, observation(1.0)), observation(0.75))
    reward, _ = _block_reward.close(state, settings)
    assert float(reward) == 1.25
