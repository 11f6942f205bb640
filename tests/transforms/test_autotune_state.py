"""autotune: its state is resumed, donated, and compiled once."""

import flax.serialization
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import optax_adaptive
from optax_adaptive import controllers
from tests.helpers.regression import (
    STEPS,
    make_step,
    squared_error,
    student,
    teacher,
    wraps,
)

pytestmark = pytest.mark.usefixtures("standard_promotion")


def test_resumes_bitwise_in_every_phase():
    tx = optax_adaptive.autotune(optax.adam(0.1), total_steps=STEPS)
    step = jax.jit(make_step(tx))
    params = student(jax.random.key(0))
    state = tx.init(params)
    other, other_state = params, state
    phases = set()
    for i in range(200):
        batch = teacher(jax.random.key(i))
        params, state = step(params, state, batch)
        if i % 10 == 0:
            phases.add(int(optax_adaptive.summary(other_state)["phase"]))
            blob = flax.serialization.to_bytes((other, other_state))
            like = jax.tree.map(jnp.zeros_like, (other, other_state))
            other, other_state = flax.serialization.from_bytes(like, blob)
            other, other_state = jax.tree.map(jnp.asarray, (other, other_state))
        other, other_state = step(other, other_state, batch)
    assert phases == {0, 1, 2, 3}
    pairs = zip(
        jax.tree.leaves((params, state)),
        jax.tree.leaves((other, other_state)),
        strict=True,
    )
    for one, two in pairs:
        np.testing.assert_array_equal(one, two)
    assert step._cache_size() == 1


def test_donation():
    tx = optax_adaptive.autotune(optax.adam(0.1), total_steps=STEPS)
    step = jax.jit(make_step(tx), donate_argnums=(0, 1))
    params = student(jax.random.key(0))
    state = tx.init(params)
    for i in range(100):
        given = params, state
        params, state = step(params, state, teacher(jax.random.key(i)))
        large = [leaf for leaf in jax.tree.leaves(given) if leaf.ndim]
        assert all(leaf.is_deleted() for leaf in large)
    assert int(optax_adaptive.summary(state)["phase"]) >= 2


def test_eager_updates_trace_their_rule_once():
    rule, traced = controllers.tuned(), []

    def update_fn(observation, state):
        traced.append(None)
        return rule.update(observation, state)

    tx = wraps(rule._replace(update=update_fn))
    params = jnp.ones(2)
    state = tx.init(params)
    for _ in range(3):
        _, state = tx.update(params, state, params, value=1.0)
    assert len(traced) == 1


def test_inside_multi_steps():
    tx = optax.MultiSteps(
        optax_adaptive.autotune(optax.adam(0.1), total_steps=200), every_k_schedule=2
    )
    params = student(jax.random.key(0))

    def step(carry, key):
        params, state = carry
        loss, grads = jax.value_and_grad(squared_error)(params, teacher(key))
        updates, state = tx.update(grads, state, params, value=loss)
        return (optax.apply_updates(params, updates), state), loss

    (params, state), losses = jax.lax.scan(
        step, (params, tx.init(params)), jax.random.split(jax.random.key(1), 400)
    )
    assert float(losses[-1]) < 0.2 * float(losses[0])
    assert optax_adaptive.summary(state)["phase"] == 3


def test_memory_is_what_the_docstring_says():
    params = {"w": jnp.zeros((100, 100)), "b": jnp.zeros(100, jnp.bfloat16)}

    def size(tree):
        return sum(leaf.nbytes for leaf in jax.tree.leaves(tree))

    inner = size(optax.adam(0.1).init(params))
    average = size(jax.tree.map(lambda p: p.astype(jnp.float32), params))
    tx = optax_adaptive.autotune(optax.adam(0.1))
    copies = inner + size(params) + average
    assert copies <= size(tx.init(params)) <= copies + 1000


def test_init_reads_no_contents():
    tx = optax_adaptive.autotune(optax.adam(0.1))
    shapes = jax.eval_shape(lambda: student(jax.random.key(0)))
    assert jax.tree.structure(tx.init(shapes)) == jax.tree.structure(
        jax.eval_shape(tx.init, shapes)
    )
    leaves = jax.tree.leaves(tx.init(student(jax.random.key(0))))
    pointers = [leaf.unsafe_buffer_pointer() for leaf in leaves]
    assert len(set(pointers)) == len(pointers)
    optax.tree.map_params(tx, lambda leaf: leaf, tx.init(shapes))


@pytest.mark.parametrize("others", [None, 200, 10_000])
def test_a_run_may_be_resumed_with_another_total_steps(others):
    params = jnp.zeros(3)
    tx = optax_adaptive.autotune(optax.sgd(0.1), total_steps=2_000)
    _, state = tx.update(params, tx.init(params), params, value=1.0)
    other = optax_adaptive.autotune(optax.sgd(0.1), total_steps=others)
    _, resumed = jax.eval_shape(
        lambda state: other.update(params, state, params, value=1.0), state
    )
    assert jax.tree.structure(resumed) == jax.tree.structure(state)
    assert jax.tree.map(jnp.result_type, resumed) == jax.tree.map(
        jnp.result_type, state
    )


@pytest.mark.parametrize("interpolate", [False, True])
def test_a_run_may_not_be_resumed_with_another_interpolate(interpolate):
    params = jnp.zeros(3)
    state = optax_adaptive.autotune(optax.sgd(0.1), interpolate=interpolate).init(
        params
    )
    other = optax_adaptive.autotune(optax.sgd(0.1), interpolate=not interpolate)
    names = ("plain", "interpolated")
    wanted, found = (names[not interpolate], names[interpolate])
    with pytest.raises(ValueError, match=f"be '{wanted}-v.*it is '{found}-v"):
        other.update(params, state, params, value=1.0)


@pytest.mark.parametrize(
    "make",
    [
        lambda: optax_adaptive.autotune(optax.adam(0.1)),
        lambda: optax_adaptive.with_rollback(optax.adam(0.1)),
        lambda: optax_adaptive.with_averaging(optax.adam(0.1)),
    ],
)
def test_eager_updates_compile_nothing_anew(make):
    tx, params = make(), jnp.ones(2)
    state, compiled = tx.init(params), []

    def listen(event, seconds, **details):
        del seconds, details
        if event.endswith("backend_compile_duration"):
            compiled.append(event)

    with jax.numpy_dtype_promotion("standard"):  # Adam mixes dtypes
        for index in range(8):
            if index == 4:
                jax.monitoring.register_event_duration_secs_listener(listen)
            _, state = tx.update(params, state, params, value=jnp.float32(1.0))
    jax.monitoring.unregister_event_duration_listener(listen)
    assert not compiled


@pytest.mark.slow
@pytest.mark.parametrize("steps", [30, 120, 280])  # range test, warm-up, maintain
def test_a_run_that_is_given_more_steps_goes_on(steps):
    def trained(total_steps, state, count):
        tx = optax_adaptive.autotune(optax.sgd(1e-6), total_steps=total_steps)

        def step(carry, index):
            params, state = carry
            noise = 0.05 * jax.random.normal(jax.random.key(index), (4,))
            loss, grads = jax.value_and_grad(
                lambda p: jnp.sum(jnp.square(p - 1.0 + noise))
            )(params)
            updates, state = tx.update(grads, state, params, value=loss)
            return (optax.apply_updates(params, updates), state), None

        params = jnp.zeros(4)
        state = (params, tx.init(params)) if state is None else state
        return jax.lax.scan(step, state, jnp.arange(count))[0]

    halfway = trained(300, None, steps)
    params, state = trained(3_000, halfway, 1_000)
    numbers = optax_adaptive.summary(state)
    assert numbers["phase"] == 3 and numbers["found_scale"] > 0.0
    averaged = optax_adaptive.eval_params(state, params)
    np.testing.assert_allclose(averaged, 1.0, atol=0.05)


@pytest.mark.parametrize("total_steps", [2e3, np.int64(2000)])
def test_total_steps_may_be_any_whole_number(total_steps):
    tx = optax_adaptive.autotune(optax.sgd(0.1), total_steps=total_steps)
    params = jnp.ones(3)
    state = tx.init(params)
    _, after = tx.update(params, state, params, value=1.0)
    assert jax.tree.structure(after) == jax.tree.structure(state)
