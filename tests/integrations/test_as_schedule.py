"""as_schedule shows the rate in the hyperparameters, a step late."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from optax_adaptive import controllers, lr_scale, with_averaging, with_rollback
from optax_adaptive.integrations import as_schedule
from tests.contract.rules import RULES, SETTINGS, followed, stream, with_measured


# as_schedule does not know which rule is inside: one with a first factor, one with a
# random key, one that needs the wrappers, or one that has none of these.
@pytest.mark.parametrize("rule", ["range_test", "bandit", "tuned", "plateau"])
def test_the_rate_is_the_base_rate_times_the_factor_a_step_late(rule):
    made = RULES[rule]()
    rate = as_schedule(0.1, made, **SETTINGS)
    tx = optax.inject_hyperparams(optax.sgd)(learning_rate=rate)
    tx = with_measured(tx) if made.needs else tx
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


def test_a_rule_that_needs_the_wrappers_has_them_around_the_optimizer():
    rate = as_schedule(0.1, controllers.tuned())
    inner = optax.inject_hyperparams(optax.sgd)(learning_rate=rate)
    tx = with_averaging(with_rollback(inner))
    params = jnp.zeros(3)

    def step(carry, _):
        params, state = carry
        loss, grads = jax.value_and_grad(lambda p: jnp.mean(jnp.square(p - 1.0)))(
            params
        )
        updates, state = tx.update(grads, state, params, value=loss)
        return (optax.apply_updates(params, updates), state), lr_scale(state)

    _, scales = jax.lax.scan(step, (params, tx.init(params)), length=60)
    assert scales[0] == pytest.approx(1e-8) and scales[-1] > 1e-2
    bare = optax.with_extra_args_support(inner)
    with pytest.raises(ValueError, match="'tuned' does not work without with_averag"):
        bare.update(params, bare.init(params), params, value=1.0)
