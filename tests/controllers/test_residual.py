"""The driver of all learners: what it does with actions that are known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optax_adaptive import controllers, scale_by_controller
from optax_adaptive.controllers._residual import Learner, residual
from tests.controllers.environment import STEPS, log_scales
from tests.follow import follow

LEARNERS = {
    "thompson": lambda seed: controllers.bandit("thompson", seed=seed),
    "ucb": lambda seed: controllers.bandit("ucb", seed=seed),
    "exp3s": lambda seed: controllers.bandit("exp3s", seed=seed),
    "q_learning": lambda seed: controllers.q_learning(seed=seed),
    "actor_critic": lambda seed: controllers.actor_critic(seed=seed),
}
every_learner = pytest.mark.parametrize("learner", LEARNERS)


def always(action):
    """A learner that always wants ``action``, and counts what it is told of."""

    def act(count, features, key, exploration):
        del features, key, exploration
        return jnp.array(action, jnp.float32), count

    return Learner(
        lambda: jnp.zeros((), jnp.int32), act, lambda count, transition: count + 1
    )


def scales_of(learner, values, alpha=1.0):
    rule = residual(learner, alpha, 2, 0)
    tx = scale_by_controller(rule, accumulation_size=1, window=6)
    return np.log(np.asarray(follow(tx)(np.float32(values))[0]))


def falling(steps):
    return 5 / (1 + np.arange(steps) / 10) + np.random.default_rng(0).normal(
        0, 0.01, steps
    )


def test_begins_at_the_lowest_action_and_goes_up_a_step_a_block():
    logs = scales_of(always(0.0), falling(9))
    np.testing.assert_allclose(logs, [-1, -0.5, -0.5, 0, 0, 0, 0, 0, 0], atol=1e-6)


def test_a_fifth_of_the_blocks_are_at_the_no_op():
    logs = scales_of(always(-1.0), falling(90))[10:]  # before the guard judges
    # Free until window 50: every block is at the action or at the no-op.
    is_no_op = np.abs(logs[:34]) < 1e-6
    np.testing.assert_allclose(logs[:34][~is_no_op], -1)
    assert 0.05 < np.mean(is_no_op) < 0.5


def test_an_action_without_a_gain_is_given_up():
    rng = np.random.default_rng(1)
    rule = residual(always(-1.0), 1.0, 2, 0)
    run = follow(scale_by_controller(rule, accumulation_size=1, window=6))
    sizes = [
        np.abs(np.log(np.asarray(run(np.float32(rng.normal(3, 0.1, 200)))[0])))
        for _ in range(6)
    ]
    free, judged = np.mean(sizes, axis=0)[10:45], np.mean(sizes, axis=0)[100:]
    assert np.mean(free) > 0.7
    assert np.mean(judged) < 0.35


def test_after_a_blow_up_the_rate_is_the_lowest():
    values = falling(40)
    values[21] = np.inf
    logs = scales_of(always(1.0), values)
    assert logs[20] > -0.5
    np.testing.assert_allclose(logs[21:23], -1, atol=1e-6)


@every_learner
def test_moves_where_it_helps_and_comes_home_where_nothing_does(learner):
    helps, nothing = log_scales(LEARNERS[learner], powers=[1.0, 0.0])
    third = STEPS // 3
    if learner in ("thompson", "ucb"):  # the others need more blocks than a run has
        assert np.mean(helps[:, third:]) > 0.4
    assert np.median(np.abs(np.mean(nothing[:, -third:], axis=1))) < 0.2
    assert max(np.max(np.abs(helps)), np.max(np.abs(nothing))) <= 1.3 + 1e-5


@every_learner
def test_explores_by_its_seed(learner):
    values = np.float32(falling(120))

    def run(seed):
        tx = scale_by_controller(LEARNERS[learner](seed), accumulation_size=1)
        return follow(tx)(values)[0]

    once, again, other = np.asarray(jax.jit(jax.vmap(run))(jnp.array([0, 0, 1])))
    np.testing.assert_array_equal(once, again)
    assert np.any(once != other)


def test_the_learners_are_anchored_to_another_rule():
    rule = controllers.anchored(controllers.plateau(0.1, patience=3), always_rule())
    tx = scale_by_controller(rule, accumulation_size=1)
    logs = np.log(np.asarray(follow(tx)(np.ones(12, np.float32))[0]))
    drops = np.round(logs / np.log(10))
    assert drops[-1] <= -2  # plateau's own tenths, with a residual of at most 0.5
    assert np.all(np.abs(logs - drops * np.log(10)) <= 0.5 + 1e-5)


def always_rule():
    return residual(always(1.0), 0.5, 2, 0)


def test_the_state_is_small():
    for learner, size in (("thompson", 1024), ("q_learning", 2048)):
        state = jax.eval_shape(LEARNERS[learner](0).init)
        assert sum(4 * leaf.size for leaf in jax.tree.leaves(state)) <= size
