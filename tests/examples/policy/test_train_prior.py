"""train_prior: it runs, resumes exactly, and exports what the learners can load."""

import functools
import json
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from methods.rules import learner_window
from optax_adaptive import Controller, scale_by_controller, with_averaging
from optax_adaptive.controllers import bandit, load_prior
from optax_adaptive.controllers.learned import state_features
from optax_adaptive.controllers.online import _block_reward
from policy import anchored, families, prior_fits, prior_states, rollout, train_prior
from tests.helpers.spy import spy


@pytest.fixture(autouse=True)
def standard_promotion():
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


def test_regrets_are_in_units_of_a_decade():
    losses = 0.3 * np.square(prior_states.GRID - prior_states.GRID[7])
    labels = prior_states.regrets(losses, np.array([0.0, -1.0]))
    np.testing.assert_allclose(labels[0, [0, 6, 12]], [1, 0, 1], atol=0.02)
    np.testing.assert_allclose(labels[1, [6, 12]], [1, 0], atol=0.02)


def test_fits_choose_what_has_the_least_regret():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(400, state_features.SIZE)).astype(np.float32)
    features[:, 9:12] = 0  # what a learner does not know
    best = np.clip(features[:, 1], -1, 1)  # the action that is right
    labels = np.square(prior_states.ACTIONS - best[:, None])
    seen = prior_states.States(features, labels, np.full(400, 1 / 400))
    prior = prior_fits.fit_all(seen, prior_fits.fit_actor(seen))
    reached = prior_fits.mean_regrets(seen, prior)
    assert reached["actor_critic"] < 0.1 * reached["anchor"]
    assert reached["bandit"] < 0.3 * reached["anchor"]
    assert reached["q_learning"] < 0.3 * reached["anchor"]


def test_a_fifth_of_what_is_fitted_to_has_no_averaging_gap():
    rng = np.random.default_rng(0)
    seen = prior_states.States(
        rng.normal(size=(3, state_features.SIZE)),
        np.eye(3),
        np.array([0.5, 0.25, 0.25]),
    )
    mixed = prior_states.mixed(seen)
    np.testing.assert_array_equal(mixed.features[:3], seen.features)
    np.testing.assert_array_equal(mixed.features[3:, :-2], seen.features[:, :-2])
    np.testing.assert_array_equal(mixed.features[3:, -2:], 0)
    np.testing.assert_allclose(mixed.weights[:3], 0.8 * seen.weights)
    np.testing.assert_allclose(mixed.weights[3:], 0.2 * seen.weights)


@pytest.mark.slow
def test_regrets_on_kinds_left_out():
    rng = np.random.default_rng(0)

    def part(sign):  # the right action is a feature, with the sign of the family
        features = rng.normal(size=(200, state_features.SIZE)).astype(np.float32)
        best = np.clip(sign * features[:, 1], -1, 1)
        labels = np.square(prior_states.ACTIONS - best[:, None])
        return prior_states.States(features, labels, np.full(200, 1 / 200))

    alike = prior_fits.left_out([part(1) for _ in range(6)], 3)
    assert alike["actor_critic"] < 0.2 * alike["anchor"]
    # The third family is another: fitted to the rest, it is judged badly.
    other = prior_fits.left_out([part(s) for s in (1, 1, -1, 1, 1, -1)], 3)
    assert other["actor_critic"] > other["anchor"] / 2


class Watching(NamedTuple):
    """What a trace asks of a rule's state."""

    features: jax.Array
    action: jax.Array
    block: _block_reward.Block


def test_a_learner_sees_what_it_would_see_in_a_users_training():
    family = prior_states.table(is_smoke=True)["values-sgd"]
    key, offset = jax.random.key(3), jnp.float32(-0.5)
    rule, seen = spy()
    state = Watching(jnp.zeros(()), jnp.zeros(()), _block_reward.first_block())
    watching = Controller(
        lambda: state, lambda o, state: (rule.update(o, ())[0], state), -1.0
    )
    run = functools.partial(anchored.learner_run, family, lambda prior, seed: watching)
    run = jax.jit(run)
    final, _ = run(None, offset, None, key)
    jax.effects_barrier()
    collected, seen[:] = list(seen), []
    run(None, jnp.float32(2.0), None, key)
    jax.effects_barrier()
    blown_up, seen[:] = list(seen), []
    assert any(o.value == np.inf for o in blown_up)
    assert any(1e19 < o.value < np.inf for o in blown_up)  # whose square is infinite
    assert np.isfinite([o.standard_error for o in blown_up]).all()
    tx = with_averaging(
        optax.chain(
            families.OPTIMIZERS[family.optimizer](family.learning_rate * 10.0**offset),
            optax.scale_by_schedule(optax.cosine_decay_schedule(1.0, family.steps)),
            scale_by_controller(
                rule._replace(initial_log_scale=-1.0),
                accumulation_size=learner_window(family.steps),
            ),
        )
    )
    draw = functools.partial(families.sample, family)
    params, problem, _ = rollout.train(draw, family.steps, tx, key)
    jax.effects_barrier()
    assert len(seen) == len(collected) == 40
    assert any(o.averaging_gap != 0 for o in seen)
    for user, ours in zip(seen, collected, strict=True):
        for name, value in user._asdict().items():
            np.testing.assert_allclose(
                getattr(ours, name), value, rtol=1e-3, atol=1e-6, err_msg=name
            )
    np.testing.assert_allclose(rollout.final(problem, params), final, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.usefixtures("compiled_once")
def test_smoke_resumes_exactly_and_exports(tmp_path):
    def run(name):
        path = tmp_path / f"{name}.json"
        train_prior.main(
            ["--smoke", "--workdir", str(tmp_path / "run"), "--export", str(path)]
        )
        return json.loads(path.read_text())

    first = run("first")
    (tmp_path / "run" / "round_1_values-sgd.npz").unlink()  # stopped before its end
    assert run("again")["prior"] == first["prior"]
    bandit(prior=load_prior(tmp_path / "first.json"))
    log = (tmp_path / "run" / "log.jsonl").read_text()
    assert [next(iter(json.loads(line))) for line in log.splitlines()] == [
        "header",
        "family",
        "round",
        "round",
    ]
    with pytest.raises(SystemExit, match="--seed is 1, but .* holds a run with 0"):
        train_prior.main(["--smoke", "--seed", "1", "--workdir", str(tmp_path / "run")])
    # The forms around a network that is there.
    path = tmp_path / "around.json"
    train_prior.main(
        [
            *("--smoke", "--workdir", str(tmp_path / "around"), "--export", str(path)),
            *("--actor", str(tmp_path / "first.json")),
        ]
    )
    around = json.loads(path.read_text())["prior"]
    assert around["actor"] == first["prior"]["actor"]
    assert around["q_values"] != first["prior"]["q_values"]
