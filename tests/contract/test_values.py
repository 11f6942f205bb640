"""Any metric may come: any dtype, any number, and no number at all."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optax_adaptive import summary
from tests.contract.rules import (
    RULES,
    STEPS,
    every_rule,
    followed,
    scaled,
    scaling,
    stepping,
    stream,
)
from tests.helpers.loud import assert_finite_answers

VALUES = [
    2,
    2.0,
    True,
    np.float64(2),
    np.int64(2),
    np.float32(2),
    np.array(2, np.float16),
    jnp.array(2, jnp.int32),
    jnp.array(2, jnp.bfloat16),
    jnp.array(2, jnp.float16),
    jnp.array(2, jnp.float32),
]


# A step is a step to them, be it one without a loss: see test_wrapped.py.
ON_A_CLOCK = ("search", "maintain", "tuned")


def avals(tree):
    return jax.tree.map(lambda x: (x.shape, x.dtype, x.weak_type), tree)


@every_rule
def test_the_state_has_one_type_whatever_the_value_is(rule):
    tx = scaling(rule)
    state = jax.eval_shape(tx.init, None)
    update = jnp.ones(3)
    assert all(not weak for *_, weak in jax.tree.leaves(avals(state), is_leaf=is_aval))
    for value in VALUES:
        updates, new_state = jax.eval_shape(
            lambda value, state: tx.update(update, state, value=value), value, state
        )
        assert avals(new_state) == avals(state)
        assert avals(updates) == ((3,), jnp.float32, False)


def is_aval(node):
    return isinstance(node, tuple) and len(node) == 3 and isinstance(node[2], bool)


# What keeps it from being traced again does not know which rule it is.
@pytest.mark.parametrize("rule", ["plateau", "bandit", "tuned"])
def test_a_rule_is_traced_once_in_eager_use(rule):
    inner, traces = RULES[rule](), []

    def update_fn(observation, state):
        traces.append(observation)
        return inner.update(observation, state)

    tx = scaled(inner._replace(update=update_fn))
    state = tx.init(None)
    for value in VALUES:
        _, state = tx.update(jnp.ones(()), state, value=value)
    assert len(traces) == 1


@every_rule
def test_a_second_step_does_not_compile(rule):
    step, state = stepping(rule), scaling(rule).init(None)
    for value in np.float32([3, np.nan, 1, 2]):
        state = step(state, value)
    assert step._cache_size() == 1


def hostile_streams():
    holes = {
        f"{bad} at {where}": np.where(np.isin(np.arange(STEPS), where), bad, stream())
        for bad, where in itertools.product(
            [np.nan, np.inf, -np.inf, 1e30, -1e30, 3e38], [(0,), (5,), range(20, 30)]
        )
    }
    return holes | {
        "nothing but nan": np.full(STEPS, np.nan),
        "nothing but inf": np.full(STEPS, np.inf),
        "huge": stream() * 1e30,
        "alternating": 1e37 * (-1.0) ** np.arange(STEPS),
        "tiny": stream() * 1e-38,
        "zero": np.zeros(STEPS),
    }


@every_rule
@pytest.mark.parametrize("mode", ["min", "max"])
def test_no_stream_makes_the_factor_or_the_summary_non_finite(rule, mode):
    run = followed(rule, mode=mode)
    streams = np.float32([*hostile_streams().values()])
    runs = [run(values) for values in streams]
    scales = np.stack([scales for scales, _ in runs])
    assert_finite_answers(scales)
    assert np.all(np.isfinite(scales))
    states = jax.tree.map(lambda *leaves: jnp.stack(leaves), *(s for _, s in runs))
    numbers = summary(states)
    assert np.all(np.isfinite(numbers["last_value"]))
    is_countable = np.abs(streams) <= 1e37
    counts = np.sum(~is_countable, axis=1)
    np.testing.assert_array_equal(numbers["nonfinite_values"], counts)
    is_seen = numbers["windows"] > 0
    assert np.all(np.isfinite(numbers["best_value"][is_seen]))


@pytest.mark.parametrize("rule", [rule for rule in RULES if rule not in ON_A_CLOCK])
def test_one_nan_changes_nothing_but_the_count(rule):
    # With windows of one value, a stream with a hole decides as the stream without it
    # once the rule ignores it; the hole itself is a blow-up, so it is put in a window
    # of two, which then only takes a value longer to close.
    values = stream()
    with_hole = np.insert(values[:-1], 7, np.nan)
    expected, _ = followed(rule)(values)
    scales, state = followed(rule)(with_hole)
    np.testing.assert_array_equal(scales[8:], expected[7:-1])
    assert summary(state)["nonfinite_values"] == 1


@every_rule
def test_max_of_a_metric_is_min_of_its_negative(rule):
    # Gaps are those of a loss: of a metric that rises there are none.
    for values in (stream(), stream() - 10, stream() - 2):
        falling, _ = followed(rule, has_gap=False)(values)
        rising, _ = followed(rule, mode="max")(-values)
        np.testing.assert_array_equal(falling, rising)


@every_rule
def test_debug_nans_finds_none(rule):
    # A function of its own, that of the others being compiled without.
    step = jax.jit(stepping(rule).__wrapped__, donate_argnums=0)
    with jax.debug_nans(True):
        state = scaling(rule).init(None)
        for value in stream()[:30]:
            state = step(state, value)
    assert np.isfinite(state.lr_scale)
