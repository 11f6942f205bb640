"""train_policy: it runs, resumes exactly, and exports what the rule can load."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from methods.hand_set_policy import first_policy
from optax_adaptive import controllers
from optax_adaptive.controllers.learned.policy_network import score
from optax_adaptive.controllers.learned.state_features import NAMES
from policy import data, evolution, families, ppo, rollout, train_policy


@pytest.fixture(autouse=True)
def standard_promotion():
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


def test_scores_are_centred_and_bounded():
    scores = evolution.scores(np.array([1.0, 1.0, 1.0, np.exp(0.03), 1e3, 1e-3]))
    np.testing.assert_allclose(scores, [0, 0, 0, 0.5, 4, -4])


def test_the_estimate_points_down():
    # The mean score is a parabola with its minimum at 0: the centre moves towards it.
    policy = first_policy(jax.random.key(0))
    state = evolution.first_evolution(policy, 0.01)
    state = state._replace(center=jnp.ones_like(state.center))
    size = state.center.size
    for key in jax.random.split(jax.random.key(1), 30):
        directions = evolution.noise(key, 200, size)
        fitness = jnp.square(state.center + 0.1 * directions).mean(1)
        state = evolution.advance(state, directions, fitness, 0.1, 0.01, 0.0)
    assert jnp.mean(state.center) < 0.85


def test_the_advantage_is_that_of_the_runs_that_end_well():
    rng = np.random.default_rng(0)
    mask = np.arange(ppo.MOST) < np.array([[5], [9], [7], [9]])
    features = rng.normal(size=(*mask.shape, len(NAMES))).astype(np.float32)
    trace = ppo.Trace(features, mask * 1.0, mask)
    found = ppo.advantages(trace, np.array([1.0, -1.0, 2.0, -2.0]))
    assert found.shape == mask.shape and (found[~mask] == 0.0).all()
    np.testing.assert_allclose(found[mask].mean(), 0.0, atol=1e-5)
    np.testing.assert_allclose(found[mask].std(), 1.0, rtol=1e-3)
    last = found[np.arange(4), mask.sum(1) - 1]
    assert (last[[0, 2]] > 0.0).all() and (last[[1, 3]] < 0.0).all()


def test_actions_with_an_advantage_become_more_likely():
    policy = first_policy(jax.random.key(0))
    center, unravel = jax.flatten_util.ravel_pytree(policy)
    shape = (3, ppo.MOST)
    features = jax.random.normal(jax.random.key(1), (*shape, len(NAMES)))
    means = jax.vmap(jax.vmap(lambda x: score(policy, x)))(features)
    above = jnp.where(jnp.arange(ppo.MOST) % 2, 0.4, -0.4)
    trace = ppo.Trace(features, means + above, jnp.ones(shape, bool))
    optimizer = evolution.optimizer(0.003)
    state = optimizer.init(center)
    # Whatever lies above the mean is good, and what lies below it bad.
    moved, _ = ppo.improve(
        optimizer, unravel, center, state, trace, jnp.sign(trace.actions - means)
    )
    after = jax.vmap(jax.vmap(lambda x: score(unravel(moved), x)))(features)
    assert 0.01 < float(jnp.mean(after - means)) < 0.3


@pytest.mark.slow
def test_runs_of_ppo_differ_by_their_noise_alone():
    family = families.TRAINING["values-sgd"]._replace(steps=250)
    weights = first_policy(jax.random.key(0))
    setting, key = rollout.setting(0.0, 250, True), jax.random.key(2)
    losses, trace = ppo.explore(family, 3, weights, setting, key)
    assert len(set(losses.tolist())) == 3
    assert trace.mask.any(axis=1).all() and not trace.mask.all(axis=1).any()
    losses, trace = ppo.explore(family, 3, weights, setting, key, deviation=1e-17)
    stacked = jax.tree.map(lambda leaf: leaf[None], weights)
    (expected,) = rollout.policy_losses(family, stacked, setting, key)
    np.testing.assert_allclose(losses, expected, rtol=1e-5)
    means = jax.vmap(lambda x: score(weights, x))(trace.features[0])
    np.testing.assert_allclose(means[trace.mask[0]], trace.actions[0][trace.mask[0]])


def test_no_network_is_held_out_and_trained_on():
    trained = [family.network for family in families.TRAINING.values()]
    for family in families.HELD_OUT.values():
        assert all(family.network is not network for network in trained)


@pytest.mark.parametrize("draw", [data.letters, data.markov])
def test_no_window_lies_in_training_and_validation(draw):
    split = draw(jax.random.key(0))
    last = np.asarray(split.inputs[-1])
    first = np.asarray(split.val_inputs[0])
    length = len(last)
    assert len(split.inputs) > 1000 and len(split.val_inputs) >= 128
    assert not any(np.array_equal(last[i:], first[: length - i]) for i in range(8))


@pytest.mark.slow
@pytest.mark.usefixtures("compiled_once")
@pytest.mark.parametrize("by", train_policy.TRAINERS)
def test_smoke_resumes_exactly_and_exports(by, tmp_path):
    weights = tmp_path / "weights.json"
    arguments = ["--smoke", "--by", by, "--seed", "3"]
    arguments += ["--workdir", str(tmp_path / "run")]
    train_policy.main([*arguments, "--export", str(weights)])
    trainer = train_policy.TRAINERS[by](train_policy.parse(arguments))
    state, _ = trainer.generation(trainer.start)
    path = tmp_path / "checkpoint.npz"
    train_policy.save(path, state, np.asarray(state.smooth), 0.0)
    state, _, _ = train_policy.restore(path, trainer.start)
    state, _ = trainer.generation(state)
    expected, _, _ = train_policy.restore(
        tmp_path / "run" / "checkpoint.npz", trainer.start
    )
    jax.tree.map(np.testing.assert_array_equal, state, expected)

    document = json.loads(weights.read_text())
    assert tuple(document["features"]) == NAMES
    controllers.learned(weights=controllers.load_weights(weights))
    log = (tmp_path / "run" / "log.jsonl").read_text()
    lines = [json.loads(line) for line in log.splitlines()]
    assert [line.get("generation", "") for line in lines] == ["", 0, 1, 1, 2, 2]


def test_a_run_is_not_resumed_with_other_settings(tmp_path):
    arguments = ["--smoke", "--generations", "1", "--workdir", str(tmp_path)]
    header = {
        "settings": {"pairs": 2, "tasks": 1, "sigma": 0.1, "learning_rate": 0.003}
    }
    header["settings"] |= {"decay": 0.0005, "seed": 1, "smoke": True}
    header["settings"] |= {"hidden": 0, "families": None, "select_every": 1}
    header["settings"] |= {"by": "ppo"}
    (tmp_path / "log.jsonl").write_text(json.dumps({"header": header}) + "\n")
    (tmp_path / "checkpoint.npz").touch()
    with pytest.raises(SystemExit, match="--seed is 0, but .* holds a run with 1"):
        train_policy.main(arguments)


def test_an_unknown_family_is_refused(capsys):
    with pytest.raises(SystemExit):
        train_policy.parse(["--families", "values-sgd", "value-sgd"])
    assert "no family value-sgd, but " in capsys.readouterr().err
