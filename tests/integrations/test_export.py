"""A step is lowered for other machines and serialised, whatever rule is in it."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import optax_adaptive
from optax_adaptive import (
    controllers,
    scale_by_controller,
    with_averaging,
    with_rollback,
)
from optax_adaptive.integrations import multi_steps, register_for_export
from tests.helpers.slow import slow_but

pytestmark = pytest.mark.usefixtures("standard_promotion")

PARAMS = {"w": jnp.ones((8, 4)), "b": jnp.ones(4)}
SHAPES = jax.eval_shape(lambda: PARAMS)
LOSS = jax.ShapeDtypeStruct((), jnp.float32)
FAST = ("plateau", "bandit", "learned")  # plain numbers, a key, a network


def step_of(tx):
    def step(params, state, grads, loss):
        updates, state = tx.update(grads, state, params, value=loss)
        return optax.apply_updates(params, updates), state

    return jax.jit(step, donate_argnums=(0, 1))


def exported(tx):
    state = jax.eval_shape(tx.init, SHAPES)
    register_for_export(state)
    export = jax.export.export(step_of(tx), platforms=["cpu", "cuda", "tpu"])
    return export(SHAPES, state, SHAPES, LOSS)


def ruled(rule):
    """Within both wrappers, whether it needs them or not."""
    scaling = scale_by_controller(rule)
    return with_averaging(with_rollback(optax.chain(optax.adam(1e-3), scaling)))


@pytest.mark.parametrize("rule", slow_but(FAST, controllers.REGISTRY))
def test_a_step_of_every_rule_is_serialised(rule):
    whole = exported(ruled(controllers.REGISTRY[rule]()))
    read = jax.export.deserialize(whole.serialize())
    assert read.platforms == ("cpu", "cuda", "tpu")
    assert (read.in_tree, read.out_tree) == (whole.in_tree, whole.out_tree)


WRAPPERS = {
    "interpolate": lambda: optax_adaptive.autotune(
        optax.adam(1e-3, b1=0.0), interpolate=True
    ),
    "MultiSteps": lambda: multi_steps(optax_adaptive.autotune(optax.adam(1e-3)), 2),
    "inject_hyperparams": lambda: optax.inject_hyperparams(
        lambda rate: optax.chain(
            optax.sgd(rate, momentum=0.9), scale_by_controller(controllers.trend())
        )
    )(0.1),
    "partition": lambda: optax.partition(
        {"w": optax_adaptive.autotune(optax.adam(1e-3)), "b": optax.sgd(0.1)},
        {"w": "w", "b": "b"},
    ),
    "combined rules": lambda: ruled(
        controllers.then(
            controllers.clip(controllers.range_test(), 2.0),
            controllers.anchored(
                controllers.warmup(controllers.trend(), 100), controllers.q_learning()
            ),
        )
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", WRAPPERS)
def test_so_is_one_of_every_wrapper(name):
    whole = exported(WRAPPERS[name]())
    assert jax.export.deserialize(whole.serialize()).in_tree == whole.in_tree


@pytest.mark.slow
def test_what_was_read_does_what_was_written():
    tx = optax_adaptive.autotune(optax.adam(1e-3))
    read = jax.export.deserialize(exported(tx).serialize())
    step = step_of(tx)
    here = jax.tree.map(jnp.copy, (PARAMS, tx.init(PARAMS)))  # which the step donates
    there = jax.tree.map(jnp.copy, here)
    for loss in (1.0, 0.9, 0.8):
        here = step(*here, PARAMS, jnp.float32(loss))
        there = jax.jit(read.call)(*there, PARAMS, jnp.float32(loss))
    assert optax_adaptive.summary(here[1])["windows"] == 3
    jax.tree.map(np.testing.assert_array_equal, here, there)


def test_registering_twice_and_what_is_no_state():
    state = optax_adaptive.with_rollback(optax.adam(0.1)).init(PARAMS)
    for _ in range(2):
        register_for_export(state)
    register_for_export({"params": [jnp.ones(2), None], "step": 1})


READ = """
import sys
import jax, jax.numpy as jnp, optax_adaptive
read = jax.export.deserialize(bytearray(open(sys.argv[1], "rb").read()))
args = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), read.in_avals)
args, kwargs = jax.tree.unflatten(read.in_tree, args)
_, state = read.call(*args, **kwargs)
print(type(state).__name__, state.averaging.is_served.shape)
"""


@pytest.mark.slow
def test_to_import_the_library_registers_its_own_states(tmp_path):
    bare = optax.GradientTransformationExtraArgs(
        lambda params: (), lambda updates, state, params=None, **_: (updates, state)
    )
    scaling = scale_by_controller(controllers.trend())
    tx = with_averaging(with_rollback(optax.chain(bare, scaling)))
    path = tmp_path / "step"
    path.write_bytes(exported(tx).serialize())
    run = subprocess.run(
        [sys.executable, "-c", READ, str(path)], capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip() == "WithAveragingState ()"
