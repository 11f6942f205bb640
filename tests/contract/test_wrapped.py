"""Rules as users compose them, within the wrappers: those that need them, above all."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax.serialization import from_bytes, to_bytes
from hypothesis import given, settings
from hypothesis import strategies as st

from optax_adaptive import (
    controllers,
    eval_params,
    lr_scale,
    observe,
    scale_by_controller,
    summary,
    with_averaging,
    with_rollback,
)
from tests.contract.rules import NEEDY
from tests.helpers.loud import assert_finite_answers, loud

MIN_SCALE, MAX_SCALE = 1e-6, 1e6
STEPS = 240  # a search takes 105; two blocks of maintain, and many windows of learned
TARGET = jnp.array([1.0, -2.0, 0.5])

every_needy_rule = pytest.mark.parametrize("rule", sorted(NEEDY))


def unitless_sgd(rate):
    """Of gradients of a loss in ``unit``, so that the rate has none."""

    def update_fn(updates, state, params=None, *, unit=1.0, **extra_args):
        del params, extra_args
        return jax.tree.map(
            lambda g: (-rate / unit * g).astype(g.dtype), updates
        ), state

    return optax.GradientTransformationExtraArgs(optax.init_empty_state, update_fn)


@functools.cache
def wrapped(rule):
    """The transformation as docstrings have it, the same object at every call."""
    scale = scale_by_controller(
        loud(controllers.REGISTRY[rule]()), min_scale=MIN_SCALE, max_scale=MAX_SCALE
    )
    return with_averaging(with_rollback(optax.chain(unitless_sgd(0.01), scale)))


def loss_fn(params, noise):
    return jnp.mean(jnp.square(params - TARGET)) + noise


def make_step(tx, unit=1.0):
    def step(carry, noise):
        params, state = carry
        loss, grads = jax.value_and_grad(lambda params: unit * loss_fn(params, noise))(
            params
        )
        updates, state = tx.update(grads, state, params, value=loss, unit=unit)
        params = optax.apply_updates(params, updates)
        return (params, state), lr_scale(state)

    return step


@functools.cache
def training(rule):
    """A jitted function of (noises, carry, unit of the loss) -> (carry, scales)."""
    return jax.jit(
        lambda noises, carry, unit: jax.lax.scan(
            make_step(wrapped(rule), unit), carry, noises
        )
    )


def trained(rule, noises, carry=None, unit=1.0):
    carry = start(rule) if carry is None else carry
    return training(rule)(noises, carry, jnp.float32(unit))


def start(rule):
    params = jnp.zeros(3)
    return params, wrapped(rule).init(params)


def noises(seed=0, steps=STEPS):
    return np.float32(np.random.default_rng(seed).normal(0, 0.02, steps))


def test_those_that_need_the_wrappers_are_these():
    assert NEEDY == {"search", "maintain", "tuned", "learned"}


# To those that ask for nothing the wrappers are an optimizer like any other.
@pytest.mark.parametrize("rule", [*sorted(NEEDY), "constant", "bandit"])
def test_a_training_ends_better_and_within_the_bounds(rule):
    (params, state), scales = trained(rule, noises())
    assert_finite_answers(scales)
    assert np.all((scales >= np.float32(MIN_SCALE)) & (scales <= np.float32(MAX_SCALE)))
    averaged = eval_params(state, params)
    assert loss_fn(averaged, 0.0) < 0.9 * loss_fn(jnp.zeros(3), 0.0)
    numbers = summary(state)
    assert numbers["rollbacks"] == numbers["nonfinite_values"] == 0
    assert numbers["phase"] == 3


@every_needy_rule
@given(
    bad=st.lists(
        st.tuples(
            st.integers(0, STEPS - 1),
            st.sampled_from([np.nan, np.inf, -np.inf, 1e30, 3e38, 100.0, -100.0]),
        ),
        max_size=12,
    )
)
def test_any_stream_in_finite_and_bounded_out(rule, bad):
    stream = noises()
    for step, value in bad:
        stream[step] = value
    (params, state), scales = trained(rule, stream)
    assert_finite_answers(scales)
    assert np.all((scales >= np.float32(MIN_SCALE)) & (scales <= np.float32(MAX_SCALE)))
    assert np.all(np.isfinite(params))
    assert np.all(np.isfinite(eval_params(state, params)))
    assert np.isfinite(summary(state)["last_value"])
    assert training(rule)._cache_size() == 1


@every_needy_rule
@pytest.mark.parametrize(
    "where", [3, 20, 60, 180]
)  # in each part of a search, and after
def test_one_nan_costs_a_batch(rule, where):
    stream = noises()
    stream[where] = np.nan
    (_, whole), expected = trained(rule, noises())
    (params, state), scales = trained(rule, stream)
    assert summary(state)["nonfinite_values"] == 1
    assert summary(state)["rollbacks"] == summary(whole)["rollbacks"] == 0
    assert loss_fn(eval_params(state, params), 0.0) < 0.05 * loss_fn(jnp.zeros(3), 0.0)
    np.testing.assert_allclose(scales[-1], expected[-1], rtol=0.1)


@every_needy_rule
@given(seed=st.integers(0, 2**16), stop=st.integers(1, 5))
@settings(max_examples=5)
def test_a_resumed_run_is_bitwise_the_uninterrupted_one(rule, seed, stop):
    chunks = noises(seed).reshape(6, 40)

    def finish(carry, chunks):
        scales = []
        for chunk in chunks:
            carry, chunk_scales = trained(rule, chunk, carry)
            scales.append(chunk_scales)
        return carry, np.concatenate(scales)

    begun = start(rule)
    last, whole = finish(begun, chunks)
    carry, _ = finish(begun, chunks[:stop])
    target = jax.tree.map(np.zeros_like, begun)
    restored = from_bytes(target, to_bytes(carry))
    resumed_last, resumed = finish(restored, chunks[stop:])
    np.testing.assert_array_equal(resumed, whole[stop * 40 :])
    jax.tree.map(np.testing.assert_array_equal, resumed_last, last)


@every_needy_rule
@pytest.mark.parametrize("unit", [2.0**-14, 2.0**14])
def test_the_unit_of_the_loss_does_not_matter(rule, unit):
    _, expected = trained(rule, noises())
    _, scales = trained(rule, noises(), unit=unit)
    np.testing.assert_array_equal(scales, expected)  # powers of two round nothing


# Eagerly, a rule is a program of its own: what is left around it is that of them all.
@pytest.mark.parametrize("rule", ["tuned"])
def test_eagerly_under_jit_and_donated_it_is_the_same(rule):
    step = make_step(wrapped(rule))
    donated = jax.jit(step, donate_argnums=0)
    eager, carry = start(rule), start(rule)
    for noise in noises(steps=20):
        eager, scale = step(eager, jnp.float32(noise))
        carry, jitted = donated(carry, jnp.float32(noise))
        np.testing.assert_allclose(jitted, scale, rtol=1e-5)
    assert donated._cache_size() == 1
    pointers = [leaf.unsafe_buffer_pointer() for leaf in jax.tree.leaves(carry)]
    assert len(set(pointers)) == len(pointers)


@every_needy_rule
def test_the_state_keeps_its_types_whatever_params_and_value_are(rule):
    tx = wrapped(rule)
    params = {name: jnp.ones(2, name) for name in ("float16", "bfloat16", "float32")}
    state = jax.eval_shape(tx.init, params)

    def types(tree):
        return jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype, leaf.weak_type), tree)

    for value in (2, 2.0, np.float64(2), jnp.array(2, jnp.bfloat16)):
        updates, new_state = jax.eval_shape(
            lambda value, state: tx.update(params, state, params, value=value),
            *(value, state),
        )
        assert types(new_state) == types(state)
        assert jax.tree.map(lambda leaf: leaf.dtype, updates) == jax.tree.map(
            lambda leaf: leaf.dtype, params
        )


@every_needy_rule
@pytest.mark.filterwarnings("ignore:autotune and most rules")
def test_it_is_observed_within_the_wrappers(rule):
    _, state = start(rule)
    observed = observe(state, 0.5)
    assert jax.tree.map(jnp.shape, observed) == jax.tree.map(jnp.shape, state)
