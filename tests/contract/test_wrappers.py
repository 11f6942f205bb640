"""Inside and around what optax composes optimizers with."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from optax_adaptive import (
    controllers,
    lr_scale,
    observe,
    scale_by_controller,
    summary,
)
from optax_adaptive.integrations import multi_steps
from tests.contract.rules import (
    SETTINGS,
    every_rule,
    followed,
    scaled,
    scaling,
    sgd_with,
    stream,
    tunable,
)

PARAMS = {"w": jnp.ones(2), "b": jnp.ones(1)}


def scales_of(tx, values, params=PARAMS, extra=None):
    """Every controller's factor after each step, shape=(steps, controllers)."""

    def step(state, value):
        _, state = tx.update(params, state, params, value=value, **(extra or {}))
        scales = [
            number
            for name, number in summary(state).items()
            if name.endswith("lr_scale")
        ]
        return state, jnp.stack(scales)

    with jax.numpy_dtype_promotion("standard"):  # MultiSteps mixes dtypes
        return jax.jit(lambda state: jax.lax.scan(step, state, values))(tx.init(params))


def groups(rule):
    return optax.partition(
        {"w": sgd_with(rule), "b": sgd_with("constant")}, {"w": "w", "b": "b"}
    )


WRAPPERS = {
    "chain": sgd_with,
    "named_chain": lambda rule: optax.named_chain(
        ("sgd", optax.sgd(0.1)), ("controller", scaling(rule))
    ),
    "masked": lambda rule: optax.masked(sgd_with(rule), {"w": True, "b": False}),
    "apply_if_finite": lambda rule: optax.apply_if_finite(sgd_with(rule), 3),
    "flatten": lambda rule: optax.flatten(sgd_with(rule)),
    "multi_steps": lambda rule: optax.chain(
        multi_steps(optax.sgd(0.1), 4), scaling(rule)
    ),
    "inject_hyperparams": lambda rule: optax.inject_hyperparams(
        lambda learning_rate: optax.chain(optax.sgd(learning_rate), scaling(rule))
    )(0.1),
}


# A wrapper does not know which rule is inside. These are one of plain numbers, and one
# that is handed what the wrappers measure. Each rule, beside another one, is below.
@pytest.mark.parametrize("rule", ["plateau", "tuned"])
@pytest.mark.parametrize("wrapper", WRAPPERS)
@pytest.mark.filterwarnings("ignore:autotune and most rules")
def test_decides_the_same_in_a_wrapper(rule, wrapper):
    tx = WRAPPERS[wrapper](rule)
    state, scales = scales_of(tx, stream(), extra={"unexpected": 1.0})
    expected, _ = followed(rule)(stream())
    np.testing.assert_allclose(scales[:, 0], expected, rtol=1e-6)
    np.testing.assert_array_equal(lr_scale(state), scales[-1, 0])
    observed = observe(state, 0.5)
    assert jax.tree.map(jnp.shape, observed) == jax.tree.map(jnp.shape, state)


@every_rule
def test_one_controller_a_group(rule):
    _, scales = scales_of(groups(rule), stream())
    expected, _ = followed(rule)(stream())
    # Groups are sorted: b, which holds, comes first.
    np.testing.assert_array_equal(scales[:, 0], 1)
    np.testing.assert_allclose(scales[:, 1], expected, rtol=1e-6)


# That those of each rule may be traced is in test_transforms.py.
@pytest.mark.parametrize("rule", ["trend", "q_learning"])
def test_its_own_hyperparameters_may_be_injected(rule):
    hyperparams = tunable(rule)

    def make(**hyperparams):
        return scaled(controllers.REGISTRY[rule](**hyperparams))

    make.__signature__ = inspect.Signature(
        [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY)
            for name in hyperparams
        ]
    )
    tx = optax.inject_hyperparams(make)(**hyperparams)
    state, scales = scales_of(tx, stream())
    expected, _ = followed(rule)(stream())
    np.testing.assert_allclose(scales[:, 0], expected, rtol=1e-5)
    assert set(state.hyperparams) == set(hyperparams)


def test_settings_of_the_transformation_may_be_injected():
    make = optax.inject_hyperparams(
        scale_by_controller, static_args=("controller", "window")
    )
    tx = make(controllers.plateau(0.5, 1), **SETTINGS)
    tx_plain = scale_by_controller(controllers.plateau(0.5, 1), **SETTINGS)
    _, scales = scales_of(tx, stream())
    _, expected = scales_of(tx_plain, stream())
    np.testing.assert_allclose(scales, expected, rtol=1e-6)
    assert expected[-1] < 1


def test_multi_steps_inside_sees_every_micro_batch():
    tx = optax.chain(multi_steps(optax.sgd(1.0), 4), scaling("constant"))
    state, _ = scales_of(tx, np.arange(8, dtype=np.float32))
    numbers = summary(state)
    assert numbers["windows"] == 4
    assert numbers["last_value"] == 6.5


def test_apply_if_finite_hides_steps_with_nan_gradients():
    tx = optax.apply_if_finite(sgd_with("constant"), 10)
    state = tx.init(PARAMS)
    bad = jax.tree.map(lambda leaf: leaf * jnp.nan, PARAMS)
    for updates in (PARAMS, bad, PARAMS):
        _, state = tx.update(updates, state, PARAMS, value=1.0)
    assert summary(state)["windows"] == 1
