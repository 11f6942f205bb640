"""The test for a loss that no longer falls: what it sees, and what it leaves alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optax_adaptive import _descent

STEPS = 2000
FIRST_LOSS, NOISE = 3.0, 0.3


@jax.jit
def lowerings(values):
    """How far each of ``values``, float32 of shape (STEPS,), lowers the rate."""

    def step(descent, value_and_time):
        value, elapsed = value_and_time
        return _descent.watch(descent, value, elapsed, FIRST_LOSS, NOISE)

    elapsed = jnp.arange(1, STEPS + 1, dtype=jnp.int32)
    return jax.lax.scan(step, _descent.first_descent(), (values, elapsed))[1]


def noise(seed):
    return np.random.default_rng(seed).normal(0, NOISE, STEPS)


def as_loss(values, offset=0.0):
    return jnp.asarray(values + offset, jnp.float32)


@pytest.mark.parametrize("seed", range(5))
def test_a_slow_descent_is_left_alone(seed):
    time = np.arange(1, STEPS + 1)
    losses = 2.0 * time**-0.25 + noise(seed) / 4
    assert np.count_nonzero(lowerings(as_loss(losses))) == 0


def test_blocks_of_a_plateau_lower_again_and_again_ever_more_rarely():
    changes = np.flatnonzero(lowerings(as_loss(1.0 + noise(0))))
    # Three blocks of 40, and from then on blocks of a quarter of the elapsed time.
    assert changes[0] == 3 * _descent.SHORTEST - 1
    assert 3 <= len(changes) <= 5
    assert (np.diff(np.diff(changes)) > 0).all()


def test_a_rise_lowers_twice_as_far():
    time = np.arange(STEPS)
    changes = lowerings(as_loss(1.0 + 0.01 * time + noise(0)))
    assert changes[changes > 0][0] == 2.0


@pytest.mark.parametrize("seed", range(5))
def test_a_loss_that_has_not_moved_yet_is_waited_for(seed):
    losses = FIRST_LOSS + noise(seed)
    assert np.count_nonzero(lowerings(as_loss(losses))) == 0


def test_blocks_match_a_reference():
    values = np.float32(1.0 + noise(3))
    got = np.flatnonzero(lowerings(jnp.asarray(values)))
    blocks, want, block = [], [], []
    for elapsed, value in enumerate(values.astype(np.float64), start=1):
        block.append(value)
        if len(block) < max(0.25 * elapsed, 40):
            continue
        blocks.append((np.mean(block), np.std(block, ddof=1) / len(block) ** 0.5))
        block = []
        if len(blocks) >= 3:
            (old, old_error), _, (new, new_error) = blocks[-3:]
            if old - new < 1.5 * np.hypot(old_error, new_error):
                want.append(elapsed - 1)
                blocks = []
    assert got.tolist() == want
