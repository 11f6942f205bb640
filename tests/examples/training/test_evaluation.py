"""Parameters are evaluated with batch-norm statistics of their own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from data.dataset import Dataset
from methods import registry
from training import chunks, devices, flags
from training.evaluation import Evaluation


def per_example(model, batch, rngs):
    return {"loss": jnp.mean(model(batch["x"]) ** 2, -1)}


@pytest.mark.parametrize("name", ["schedule_free_adamw", "cosine"])
def test_statistics_that_training_left_are_not_used(name):
    rng = np.random.default_rng(0)
    x = rng.normal(5.0, 2.0, (2048, 4)).astype(np.float32)
    data = Dataset("noise", {"x": x}, {"x": x[:100]}, {"x": x[:100]}, {})
    model = nnx.BatchNorm(4, rngs=nnx.Rngs(0))
    model.train()
    graphdef, params, statistics = nnx.split(model, nnx.Param, ...)
    method = registry.build(name, "adam", None, 100, 10)
    mesh = devices.make_mesh(64)
    state = chunks.init_state(method, params, statistics, mesh)
    config = flags.RunConfig(batch_size=64, method=name)
    evaluate = Evaluation(config, data, graphdef, method, per_example, mesh)
    # As after a blow-up, from which the parameters were brought back.
    broken = jax.tree.map(lambda leaf: leaf * jnp.nan, state.statistics)
    loss = evaluate(state._replace(statistics=broken), 0, data.test)["loss"]
    np.testing.assert_allclose(loss, 1.0, rtol=0.2)  # standardised
