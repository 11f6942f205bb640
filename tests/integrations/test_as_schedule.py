"""as_schedule shows the rate in the hyperparameters, a step late."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from optax_adaptive import controllers, lr_scale
from optax_adaptive.integrations import as_schedule
from tests.common.rules import SETTINGS, every_rule, followed, stream


@every_rule
def test_the_rate_is_the_base_rate_times_the_factor_a_step_late(rule):
    rate = as_schedule(0.1, controllers.REGISTRY[rule](), **SETTINGS)
    tx = optax.inject_hyperparams(optax.sgd)(learning_rate=rate)
    params = jnp.ones(())

    def step(state, value):
        updates, state = tx.update(params, state, params, value=value)
        return state, (-updates, state.hyperparams["learning_rate"])

    start = tx.init(params)
    run = jax.jit(lambda values: jax.lax.scan(step, start, values))
    state, (used, shown) = run(stream())
    expected = 0.1 * np.asarray(followed(rule)(stream())[0])
    first = 0.1 * float(lr_scale(start))
    np.testing.assert_allclose(used, [first, *expected[:-1]], rtol=1e-5)
    np.testing.assert_array_equal(used, shown)
    assert lr_scale(state) == pytest.approx(10 * expected[-1], rel=1e-5)
