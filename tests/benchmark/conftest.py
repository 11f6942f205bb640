"""What the tests of the benchmark share."""

import jax
import jax.numpy as jnp
import pytest

from benchmark.tasks.task import Task


@pytest.fixture(autouse=True)
def as_users_run_it():
    """The strictness of the library's own tests is not asked of models."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


@pytest.fixture
def toy():
    """Least squares with noisy targets; 200 steps."""

    def init(key):
        return {"w": jax.random.normal(key, (3,))}

    def loss(params, key):
        return jnp.mean((params["w"] - 1 + 0.1 * jax.random.normal(key, (3,))) ** 2)

    def evaluate(params, split):
        offset = {"train": 0.0, "validation": 1.0, "test": 2.0}[split]
        return jnp.mean((params["w"] - 1) ** 2) + offset

    return Task(200, 10, init, loss, evaluate, False, "squares")
