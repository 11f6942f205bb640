"""What XLA makes of an update: no large copies, and a program that grows linearly."""

from functools import partial

import jax
import jax.numpy as jnp
import optax
import pytest

import optax_adaptive

pytestmark = pytest.mark.usefixtures("optimized", "standard_promotion")


MOMENTUM = optax.sgd(0.1, 0.9)


@pytest.mark.parametrize(
    ("wrap", "optimizer"),
    [
        (optax_adaptive.with_rollback, optax.adam(0.1)),
        (optax_adaptive.autotune, optax.adam(0.1)),
        (partial(optax_adaptive.autotune, interpolate=True), optax.sgd(0.1)),
        (partial(optax_adaptive.with_rollback, restore_inner=False), MOMENTUM),
    ],
)
def test_a_step_copies_nothing_large_but_in_its_loop(optimized, wrap, optimizer):
    if jax.default_backend() != "cpu":
        pytest.skip("the names of other backends' copies differ")
    tx = wrap(optimizer)
    params = [jax.ShapeDtypeStruct((300, 500), jnp.float32)] * 2

    def step(params, state, grads, value):
        updates, state = tx.update(grads, state, params, value=value)
        return optax.apply_updates(params, updates), state

    state = jax.eval_shape(tx.init, params)
    value = jax.ShapeDtypeStruct((), jnp.float32)
    jitted = jax.jit(step, donate_argnums=(0, 1), compiler_options=optimized)
    compiled = jitted.lower(params, state, params, value).compile()
    entry = compiled.as_text().partition("\nENTRY ")[2]
    assert "parameter(0)" in entry
    copies = [line for line in entry.splitlines() if " copy(" in line]
    assert not [line for line in copies if "f32[300,500]" in line]
    # What a conditional lets pass, its branches may write out.
    conditionals = [line for line in entry.splitlines() if " conditional(" in line]
    assert not [line for line in conditionals if "f32[300,500]" in line]


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
