"""What short runs say: where the answer lies, and whether batches differ."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optax_adaptive import _search
from optax_adaptive._search import best_log_scale

LOG_SCALES = jnp.array([0.0, -1.0, -2.0])


@pytest.mark.parametrize(
    ("losses", "expected"),
    [
        ([2.0, 1.0, 2.0], -1.0),  # better beyond doubt
        ([1.0, 1.0, 2.0], -0.5),  # noise does not tell two of them apart
        ([1.0, 1.0, 1.0], -1.0),
        ([np.inf, 1.0, np.inf], -1.0),  # lost ones count for nothing
        ([np.inf, np.inf, np.inf], -2.0),  # the lowest
    ],
)
def test_what_noise_does_not_tell_apart_shares_the_answer(losses, expected):
    losses = jnp.array(losses, jnp.float32)
    answer = best_log_scale(losses, LOG_SCALES, jnp.float32(3.0), jnp.float32(0.01))
    assert float(answer) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("losses", "arms", "best"),
    [
        ([1.6, 1.2, 1.8], 3, 1),
        ([1.2, 1.6, 1.8], 3, 0),  # the third was above the first
        ([2.5, 2.2, 1.8], 3, 2),
        ([2.02, 2.0, 2.01, 1.6, 1.2, 1.5], 6, 4),  # a plateau, and what lies below it
        ([2.02, 2.0, 2.01, 2.5], 4, 1),  # a flat optimum
        ([2.0] * 8, 8, 3.5),
        ([3.0] * 8, 3, 1),  # nothing was won
        ([np.inf, 2.0, 2.0], 3, 1.5),  # the first was lost
        ([np.inf] * 8, 3, 2),  # all were: the lowest that was run
    ],
)
def test_short_runs_on_a_plateau_go_on_below_it(losses, arms, best):
    assert compared(losses, 2000) == (arms, pytest.approx(best, abs=0.05))


@pytest.mark.parametrize(
    ("losses", "arms", "best"),
    [
        ([3.0] * 8, 8, 1),  # nothing was won, by any: the first three count alone
        ([3.02, 3.01, 3.0, 1.6, 1.2, 1.5], 6, 4),  # nor was here, by the first three
        ([2.94, 2.96, 2.95, 1.6, 1.2, 1.5], 6, 4),  # noise is all that lies between
        ([2.5, 2.49, 2.51, 2.5, 2.7], 5, 1.5),
    ],
)
def test_where_runs_are_long_enough_so_do_those_that_noise_tells_apart(
    losses, arms, best
):
    assert compared(losses, 6000) == (arms, pytest.approx(best, abs=0.05))


def compared(losses, total_steps):
    """Number of short runs with these losses, and how far below the first the best."""
    search, _ = after_arms(losses, _search.budget(total_steps, interpolates=False))
    below = (np.log(_search.LONG_OVER_SHORT) - search.log_scale) / np.log(
        _search.ARM_RATIO
    )
    return int(search.arm), float(below) - _search.FIRST_ARM


def after_arms(losses, budget):
    """The search after short runs with these losses, and its last step."""
    search = _search.first_search(budget)._replace(
        stage=jnp.int32(_search.ARMS), center=jnp.float32(3), deviation=jnp.float32(0.1)
    )
    advance = jax.jit(partial(_search.advance, budget=budget))
    for _ in range(_search.MOST_ARMS * budget.arm_steps):
        if search.stage == _search.FOUND:
            break
        search, step = advance(search, jnp.float32(losses[int(search.arm)]))
    assert search.stage == _search.FOUND
    return search, step


@pytest.mark.parametrize(
    ("losses", "interpolates", "is_restart"),
    [
        ([1.6, 1.2, 1.8], False, False),  # 1.6 times the rate that is held
        ([1.6, 1.2, 1.8], True, False),  # 0.8 times it
        ([2.5, 2.2, 1.8], False, True),  # 5 times it
        ([2.5, 2.2, 1.8], True, True),  # 2.5 times it
        ([1.2, 1.6, 1.8], False, True),  # it was above the others
        ([1.6, 1.2, np.inf], False, True),  # it was lost
    ],
)
def test_the_hold_goes_on_from_a_last_run_whose_rate_was_as_low(
    losses, interpolates, is_restart
):
    _, step = after_arms(losses, _search.budget(2000, interpolates))
    assert bool(step.is_restart) == is_restart


SMOOTH, ROUGH = np.linspace(1.1, 1.0, 7), 1.0 + 0.1 * (-1.0) ** np.arange(7)


@pytest.mark.parametrize(
    ("deviation", "tail", "expected"),
    [
        (0.003, SMOOTH, False),  # what a loss of 3 is taken to have at least
        (0.003, ROUGH, True),  # as of a network whose outputs begin at 0
        (0.1, SMOOTH, True),
        (0.003, SMOOTH + 3.0, True),  # it has not descended, so nothing is known
        (0.003, np.where(np.arange(7) == 6, np.inf, SMOOTH), True),
    ],
)
def test_whether_batches_differ(deviation, tail, expected):
    budget = _search.budget(2000, interpolates=False)
    search = _search.first_search(budget)
    search = search._replace(
        center=jnp.float32(3.0),
        deviation=jnp.float32(deviation),
        losses=search.losses.at[-7:].set(tail),
    )
    assert bool(_search._has_noise(search, 7)) == expected
