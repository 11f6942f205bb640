"""train_prior: it runs, resumes exactly, and exports what the learners can load."""

import json

import jax
import numpy as np
import pytest

import train_prior
from optax_adaptive.controllers import bandit, load_prior


@pytest.fixture(autouse=True)
def standard_promotion():
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


def test_regrets_are_in_units_of_a_decade():
    losses = 0.3 * np.square(train_prior.GRID - train_prior.GRID[7])
    labels = train_prior.regrets(losses, np.array([0.0, -1.0]))
    np.testing.assert_allclose(labels[0, [0, 6, 12]], [1, 0, 1], atol=0.02)
    np.testing.assert_allclose(labels[1, [6, 12]], [1, 0], atol=0.02)


def test_fits_choose_what_has_the_least_regret():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(400, 16)).astype(np.float32)
    features[:, 9:12] = 0  # what a learner does not know
    best = np.clip(features[:, 1], -1, 1)  # the action that is right
    labels = np.square(train_prior.ACTIONS - best[:, None])
    seen = train_prior.States(features, labels, np.full(400, 1 / 400))
    prior = train_prior.fit_all(seen, train_prior.fit_actor(seen))
    reached = train_prior.mean_regrets(seen, prior)
    assert reached["actor_critic"] < 0.1 * reached["anchor"]
    assert reached["bandit"] < 0.3 * reached["anchor"]
    assert reached["q_learning"] < 0.3 * reached["anchor"]


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
        "kind",
        "round",
        "round",
    ]
    with pytest.raises(SystemExit, match="--seed is 1, but .* holds a run with 0"):
        train_prior.main(["--smoke", "--seed", "1", "--workdir", str(tmp_path / "run")])
