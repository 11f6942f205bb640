"""train_policy: it runs, resumes exactly, and exports what the rule can load."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import train_policy
from optax_adaptive import controllers
from optax_adaptive.controllers._features import NAMES
from policy import data, evolution, kinds


@pytest.fixture(autouse=True)
def standard_promotion():
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


def test_scores_are_centred_and_bounded():
    scores = evolution.scores(np.array([1.0, 1.0, 1.0, np.exp(0.03), 1e3, 1e-3]))
    np.testing.assert_allclose(scores, [0, 0, 0, 0.5, 4, -4])


def test_the_estimate_points_down():
    # The mean score is a parabola with its minimum at 0: the centre moves towards it.
    policy = evolution.first_policy(jax.random.key(0))
    state = evolution.first_evolution(policy, 0.01)
    state = state._replace(center=jnp.ones_like(state.center))
    size = state.center.size
    for key in jax.random.split(jax.random.key(1), 30):
        directions = evolution.noise(key, 200, size)
        fitness = jnp.square(state.center + 0.1 * directions).mean(1)
        state = evolution.advance(state, directions, fitness, 0.1, 0.01, 0.0)
    assert jnp.mean(state.center) < 0.85


def test_no_network_is_held_out_and_trained_on():
    trained = [kind.network for kind in kinds.TRAINING.values()]
    for kind in kinds.HELD_OUT.values():
        assert all(kind.network is not network for network in trained)


@pytest.mark.parametrize("draw", [data.letters, data.markov])
def test_no_window_lies_in_training_and_validation(draw):
    split = draw(jax.random.key(0))
    last = np.asarray(split.inputs[-1])
    first = np.asarray(split.val_inputs[0])
    length = len(last)
    assert len(split.inputs) > 1000 and len(split.val_inputs) >= 128
    assert not any(np.array_equal(last[i:], first[: length - i]) for i in range(8))


@pytest.mark.usefixtures("compiled_once")
def test_smoke_resumes_exactly_and_exports(tmp_path):
    weights = tmp_path / "weights.json"
    arguments = ["--smoke", "--seed", "3", "--workdir", str(tmp_path / "run")]
    train_policy.main([*arguments, "--export", str(weights)])
    trainer = train_policy.Trainer(train_policy.parse(arguments))
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
    header = {"settings": {"pairs": 2, "tasks": 1, "sigma": 0.1, "learning_rate": 0.01}}
    header["settings"] |= {"decay": 0.0005, "seed": 1, "smoke": True}
    header["settings"] |= {"hidden": 0, "kinds": None, "select_every": 1}
    (tmp_path / "log.jsonl").write_text(json.dumps({"header": header}) + "\n")
    (tmp_path / "checkpoint.npz").touch()
    with pytest.raises(SystemExit, match="--seed is 0, but .* holds a run with 1"):
        train_policy.main(arguments)
