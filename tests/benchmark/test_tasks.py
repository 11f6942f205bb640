"""The tasks learn, from the same start, and know their splits."""

import jax
import numpy as np
import optax
import pytest

from benchmark import tasks
from data import prepared

CHANCE = {"digits": (0, 25), "noisy": (0, 25), "cnn": (0, 25), "demand": (2000, 8000)}
TEXT = (4.0, 6.0)  # nats; the log of 96 letters is 4.6


def make(name):
    folder = prepared.default_dir()
    if name == "cnn" and not (folder / "cifar10").exists():
        pytest.skip(f"no CIFAR-10 in {folder}: OPTAX_ADAPTIVE_DATA names another")
    return tasks.TASKS[name](folder)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in tasks.TASKS if name != "short"])
def test_task_learns(name):
    task = make(name)
    params = task.init(jax.random.key(0))
    evaluate = jax.jit(task.evaluate, static_argnums=1)
    first = {split: float(evaluate(params, split)) for split in tasks.SPLITS}
    low, high = CHANCE.get(name, TEXT)
    assert all(low < value < high for value in first.values()), first
    assert len(set(first.values())) == 3  # no split is another
    tx = optax.adam(1e-2)

    @jax.jit
    def step(params, state, key):
        loss, grads = jax.value_and_grad(task.loss)(params, key)
        updates, state = tx.update(grads, state)
        return optax.apply_updates(params, updates), state, loss

    state, losses = tx.init(params), []
    for key in jax.random.split(jax.random.key(1), 50):
        params, state, loss = step(params, state, key)
        losses.append(float(loss))
    assert np.mean(losses[-5:]) < 0.9 * np.mean(losses[:5])
    for split, before in first.items():
        after = float(evaluate(params, split))
        assert after > before if task.is_accuracy else after < before


def test_a_batch_depends_on_its_key_alone():
    task = make("digits")
    params = task.init(jax.random.key(0))
    losses = [float(task.loss(params, jax.random.key(k))) for k in (1, 1, 2)]
    assert losses[0] == losses[1] != losses[2]


def test_missing_data_is_said_before_anything_runs(tmp_path):
    with pytest.raises(SystemExit, match="prepare_data.py cifar10"):
        tasks.TASKS["cnn"](tmp_path)
