"""Under vmap, cond, scan and donation."""

import contextlib
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from optax_adaptive import controllers, observe, scale_by_controller, summary
from optax_adaptive.signals import window_statistics
from optax_adaptive.state.tag import unwrap_any
from tests.contract.rules import (
    RULES,
    every_rule,
    followed,
    scaled,
    scaling,
    stepping,
    stream,
    tunable,
)
from tests.helpers.follow import follow


@every_rule
def test_vmap_over_values_and_hyperparameters(rule):
    values = np.stack([stream(seed) for seed in range(3)])
    traced = {
        name: jnp.full(3, default, jnp.float32 if type(default) is float else jnp.int32)
        for name, default in tunable(rule).items()
    }

    @jax.jit
    @jax.vmap
    def run(values, traced):
        make = controllers.REGISTRY[rule] if traced else RULES[rule]
        return follow(scaled(make(**traced)))(values)[0]

    for one, scales in zip(values, run(values, traced), strict=True):
        np.testing.assert_allclose(followed(rule)(one)[0], scales, rtol=1e-5)


def maybe_step(rule):
    """A function of (state, is_on, value) -> state, and a first state."""
    tx = optax.chain(optax.sgd(0.1, momentum=0.9), scaling(rule))
    params = {name: jnp.ones(2, name) for name in ("float16", "bfloat16", "float32")}

    def maybe(state, is_on, value):
        return jax.lax.cond(
            is_on,
            lambda state: tx.update(params, state, params, value=value)[1],
            lambda state: state,
            state,
        )

    return maybe, tx.init(params)


@every_rule
def test_the_state_goes_through_cond(rule):
    """Both branches have one type, which is known without compiling them."""
    maybe, state = maybe_step(rule)
    after = jax.eval_shape(maybe, state, jnp.array(True), jnp.ones((), jnp.float16))
    assert jax.tree.map(jnp.result_type, after) == jax.tree.map(jnp.result_type, state)


def test_cond_takes_a_step_or_does_not():
    maybe, state = maybe_step("plateau")
    value = jnp.array(2, jnp.float16)
    kept = jax.jit(maybe)(state, False, value)
    jax.tree.map(np.testing.assert_array_equal, kept, state)
    after = jax.jit(maybe)(jax.jit(maybe)(state, True, value), True, value)
    assert summary(after)["windows"] == 1


@every_rule
@pytest.mark.filterwarnings("ignore:autotune and most rules")
def test_no_two_leaves_share_a_buffer(rule):
    step, state = stepping(rule), scaling(rule).init(None)
    for value in stream()[:5]:
        before = observe(state, np.float32(0.5))
        state = step(before, value)
        assert all(leaf.is_deleted() for leaf in jax.tree.leaves(before))
    pointers = [leaf.unsafe_buffer_pointer() for leaf in jax.tree.leaves(state)]
    assert len(set(pointers)) == len(pointers)


@every_rule
@pytest.mark.filterwarnings("ignore:autotune and most rules")
def test_observe_warns_of_rules_that_do_not_look_at_it(rule):
    """Of what a rule remembers nothing differs then."""
    step, remembered = stepping(rule), []
    for is_observed in (False, True):
        state = scaling(rule).init(None)
        for index, value in enumerate(stream()):
            state = step(observe(state, 9.0 - index) if is_observed else state, value)
        statistics = len(jax.tree.leaves(window_statistics.LAYOUT))
        words = unwrap_any(state.controller_memory)[statistics:]
        remembered.append([*words.tolist(), float(state.lr_scale)])
    is_deaf = remembered[0] == remembered[1]
    registered = controllers.REGISTRY[rule]()
    for nested in (registered, controllers.clip(registered, 2.0)):
        warns = pytest.warns(UserWarning, match="autotune and most rules")
        with warns if is_deaf else contextlib.nullcontext():
            observe(scale_by_controller(nested).init({}), 1.0)
    with warnings.catch_warnings(action="error"):
        if not is_deaf:
            observe(scale_by_controller(registered).init({}), 1.0)
        if not registered.needs:
            observe(scale_by_controller(registered, feedback="observe").init({}), 1.0)


@every_rule
@pytest.mark.filterwarnings("ignore:autotune and most rules")
def test_observe_is_the_same_inside_jit_and_outside(rule):
    state = scaling(rule).init(None)
    inside, outside = jax.jit(observe)(state, 0.25), observe(state, 0.25)
    jax.tree.map(np.testing.assert_array_equal, inside, outside)
    assert jax.tree.map(jnp.result_type, outside) == jax.tree.map(
        jnp.result_type, state
    )
