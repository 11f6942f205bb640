"""What XLA makes of an update: few large arrays, and a program that grows linearly."""

import re
from functools import partial

import jax
import jax.numpy as jnp
import optax
import pytest

import optax_adaptive

pytestmark = pytest.mark.usefixtures("optimized", "standard_promotion")


MOMENTUM = optax.sgd(0.1, 0.9)
LARGE = "f32[300,500]"
NO_WRITES = ("parameter", "get-tuple-element", "tuple", "while", "bitcast")


def entry_of(tx, options):
    """The instructions of one step, beside those in its loops: (type, operation)s."""
    if jax.default_backend() != "cpu":
        pytest.skip("the programs of other backends differ")
    shapes = [(300, 500), (300, 500), (500,)]
    params = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]

    def step(params, state, grads, value):
        updates, state = tx.update(grads, state, params, value=value)
        return optax.apply_updates(params, updates), state

    state = jax.eval_shape(tx.init, params)
    value = jax.ShapeDtypeStruct((), jnp.float32)
    jitted = jax.jit(step, donate_argnums=(0, 1), compiler_options=options)
    compiled = jitted.lower(params, state, params, value).compile()
    entry = compiled.as_text().partition("\nENTRY ")[2]
    found = re.findall(r"^ *(?:ROOT )?\S+ = (.*?) ([a-z-]+)\(", entry, re.MULTILINE)
    assert sum(op == "parameter" and LARGE in kind for kind, op in found) >= 4
    return found


@pytest.mark.parametrize(
    ("wrap", "optimizer", "own"),
    [
        (optax_adaptive.with_averaging, optax.adam(0.1), 0),
        (optax_adaptive.with_rollback, optax.adam(0.1), 0),
        (partial(optax_adaptive.with_rollback, restore_inner=False), MOMENTUM, 0),
        (optax_adaptive.autotune, optax.adam(0.1), 0),
        # Its average moves at each step.
        (partial(optax_adaptive.autotune, interpolate=True), optax.sgd(0.1), 1),
    ],
)
def test_a_step_writes_no_more_large_arrays_than_its_optimizer(
    optimized, wrap, optimizer, own
):
    def large(entry):
        return [(k, op) for k, op in entry if LARGE in k and op not in NO_WRITES]

    alone = large(entry_of(optax.with_extra_args_support(optimizer), optimized))
    wrapped = large(entry_of(wrap(optimizer), optimized))
    assert len(alone) >= 2  # params at least, of two leaves
    assert len(wrapped) == len(alone) + 2 * own, wrapped
    # What a conditional lets pass, its branches may write out.
    assert not {op for _, op in wrapped} & {"copy", "conditional"}


def fusions(count, options, wrap=optax_adaptive.autotune):
    """Of the program of one update, of so many leaves."""
    tx = wrap(MOMENTUM)
    params = [jnp.zeros((8, 8 + i % 3)) for i in range(count)]

    def step(params, state, grads, value):
        updates, state = tx.update(grads, state, params, value=value)
        return optax.apply_updates(params, updates), state

    jitted = jax.jit(step, donate_argnums=(0, 1), compiler_options=options)
    state = jax.eval_shape(tx.init, params)
    compiled = jitted.lower(params, state, params, jnp.zeros(())).compile()
    return compiled.as_text().count(" fusion(")


def test_the_program_grows_with_the_leaves_no_faster_than_they_do(optimized):
    assert 15 < fusions(60, optimized) <= 5 * fusions(15, optimized)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["with_averaging", "with_rollback", "autotune"])
def test_each_leaf_costs_as_much_in_a_large_tree_as_in_a_small_one(name, optimized):
    wrap = getattr(optax_adaptive, name)
    few, more, many = (fusions(count, optimized, wrap) for count in (20, 50, 200))
    assert many <= 5 * more
    assert (many - more) / 150 <= 1.2 * (more - few) / 30  # without the constant part
