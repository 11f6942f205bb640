"""The driver of all learners: what it does with actions that are known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optax_adaptive import controllers, scale_by_controller
from optax_adaptive._controller import Found
from optax_adaptive.controllers.online._learner import Learner
from optax_adaptive.controllers.online._residual import residual
from tests.helpers.environment import log_scales
from tests.helpers.follow import follow

LEARNERS = {
    "thompson": lambda seed: controllers.bandit("thompson", seed=seed),
    "ucb": lambda seed: controllers.bandit("ucb", seed=seed),
    "exp3s": lambda seed: controllers.bandit("exp3s", seed=seed),
    "q_learning": lambda seed: controllers.q_learning(seed=seed),
    "actor_critic": lambda seed: controllers.actor_critic(seed=seed),
}
every_learner = pytest.mark.parametrize("learner", LEARNERS)


@every_learner
def test_keys_of_the_old_style_are_not_needed(learner):
    tx = scale_by_controller(LEARNERS[learner](seed=3), accumulation_size=1)
    with jax.legacy_prng_key("error"):
        scales, _ = follow(tx)(np.linspace(2.0, 1.0, 30, dtype=np.float32))
    assert np.all(np.isfinite(scales))


def always(action):
    """A learner that always proposes ``action``, and counts transitions."""

    def act(count, features, key, exploration):
        del features, key, exploration
        return jnp.array(action, jnp.float32), count

    return Learner(
        lambda: jnp.zeros((), jnp.int32), act, lambda count, transition: count + 1
    )


def scales_of(learner, values, alpha=1.0):
    rule = residual("always", learner, alpha, 2, 0)
    tx = scale_by_controller(rule, accumulation_size=1, window=6)
    return np.log(np.asarray(follow(tx)(np.float32(values))[0]))


def falling(steps):
    return 5 / (1 + np.arange(steps) / 10) + np.random.default_rng(0).normal(
        0, 0.01, steps
    )


def test_starts_at_the_lowest_action_and_goes_up_a_step_a_block():
    logs = scales_of(always(0.0), falling(9))
    np.testing.assert_allclose(logs, [-1, -0.5, -0.5, 0, 0, 0, 0, 0, 0], atol=1e-6)


@pytest.mark.parametrize("log_scale", [-7.0, 0.0, 9.0])
def test_what_a_search_has_found_is_the_anchor_and_is_not_raised(log_scale):
    rule = residual("always", always(1.0), 1.0, 2, 0)
    nan = jnp.float32(jnp.nan)
    found = Found(jnp.float32(log_scale), nan, nan, jnp.array(True))
    rule = rule._replace(
        init=lambda begin=rule.begin, init=rule.init: begin(init(), found),
        initial_log_scale=log_scale,
    )
    tx = scale_by_controller(rule, accumulation_size=1, window=6, max_scale=1e5)
    state = tx.init(None)
    update = jax.jit(lambda state, value: tx.update(value, state, value=value)[1])
    logs = []
    for value in (*falling(12), np.inf, np.inf, 1.0, 0.9):
        state = update(state, jnp.float32(value))
        logs.append(float(jnp.log(state.lr_scale)) - log_scale)
    np.testing.assert_allclose(logs[:12], 0.0, atol=1e-5)
    assert min(logs) == pytest.approx(-1.0, abs=1e-5)  # the blow-up took it down


def test_a_first_factor_that_a_bound_has_cut_is_no_other_anchor():
    rule = residual("always", always(1.0), 1.0, 2, 0)
    tx = scale_by_controller(rule, accumulation_size=1, window=6, min_scale=0.5)
    logs = np.log(np.asarray(follow(tx)(np.float32(falling(16)))[0]))
    assert logs[0] == pytest.approx(np.log(0.5))
    assert logs[-1] > 0.4


def test_learns_of_the_action_taken_and_of_those_that_others_would_have_become():
    learned = []

    def learn(count, transition):
        jax.debug.callback(
            lambda a, choices: learned.append((float(a), choices.round(3).tolist())),
            transition.a_tm1,
            transition.choices_tm1,
            ordered=True,
        )
        return count

    learner = always(1.0)._replace(learn=learn)
    scales_of(learner, falling(14))
    jax.effects_barrier()
    # The first block, which has none to be compared with, is not learned.
    assert [action for action, _ in learned[:4]] == [-0.5, 0.0, 0.25, 0.5]
    # Of sixths from -1 to 1, after one of 1, with a ceiling of 0.
    assert learned[1][1] == pytest.approx([-1, -1, -1, -0.9, -0.4] + 8 * [0])


def test_after_a_blow_up_the_rate_is_the_lowest():
    values = falling(40)
    values[21] = np.inf
    logs = scales_of(always(1.0), values)
    assert logs[20] > -0.5
    np.testing.assert_allclose(logs[21:23], -1, atol=1e-6)


@pytest.mark.slow
@every_learner
def test_stays_within_the_bound(learner):
    logs = log_scales(LEARNERS[learner], powers=[1.0, 0.0], seeds=2)
    assert np.max(np.abs(logs)) <= 2.3 + 1e-5
    assert np.std(logs) > 0.05


@every_learner
def test_explores_by_its_seed(learner):
    # As where the rate is too low: else all proposals lie within the dead band.
    values = 5 - np.arange(240) / 60
    values = np.float32(values + np.random.default_rng(0).normal(0, 0.01, 240))

    def run(seed):
        tx = scale_by_controller(LEARNERS[learner](seed), accumulation_size=1)
        return follow(tx)(values)[0]

    once, again, *others = np.asarray(
        jax.jit(jax.vmap(run))(jnp.array([0, 0, 1, 2, 3, 4, 5, 6]))
    )
    np.testing.assert_array_equal(once, again)
    assert 0.01 < np.max(np.abs(np.log(once))) <= 2.3 + 1e-5
    differ = [bool(np.any(once != other)) for other in others]
    assert differ == 6 * [learner != "ucb"]  # which draws nothing


def test_the_learners_are_anchored_to_another_rule():
    rule = controllers.anchored(controllers.plateau(0.1, patience=3), always_rule())
    tx = scale_by_controller(rule, accumulation_size=1)
    logs = np.log(np.asarray(follow(tx)(np.ones(12, np.float32))[0]))
    drops = np.round(logs / np.log(10))
    assert drops[-1] <= -2  # plateau's own tenths, with a residual of at most 0.5
    assert np.all(np.abs(logs - drops * np.log(10)) <= 0.5 + 1e-5)


def always_rule():
    return residual("always", always(1.0), 0.5, 2, 0)


def test_the_state_is_small():
    for learner, size in (
        ("thompson", 2048),
        ("q_learning", 2048),
        ("actor_critic", 6144),
    ):
        state = jax.eval_shape(LEARNERS[learner](0).init)
        assert sum(4 * leaf.size for leaf in jax.tree.leaves(state)) <= size
