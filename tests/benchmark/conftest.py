"""What the tests of the benchmark share."""

import jax
import jax.numpy as jnp
import pytest

from benchmark.tasks.task import Task
from tests.benchmark.test_measures import header, row


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


@pytest.fixture
def report_lines():
    """Three methods, rates and two seeds of one task, as a file has them."""
    made = [header()]
    made[0]["header"] |= {"device": "cpu", "seconds": 3.0, "commit": "abc"}
    made[0]["header"] |= dict.fromkeys(
        ("python", "jax", "optax", "optax_adaptive"), "1"
    )
    for method, ends in {"cosine": 80.0, "autotune": 82.0, "trend": 79.0}.items():
        for rate in (1e-3, 1e-2, 1e-1):
            for seed in (0, 1):
                validation = [20.0, 50.0, ends - 1, ends + seed]
                made.append(row(method, rate, seed, validation, ends))
    return made
