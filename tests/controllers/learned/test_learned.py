"""learned against a slow reference, and what it is for."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from optax_adaptive import (
    controllers,
    eval_params,
    lr_scale,
    scale_by_controller,
    summary,
    with_averaging,
    with_rollback,
)
from optax_adaptive._controller import Found
from optax_adaptive.controllers.learned.state_features import NAMES, SIZE
from optax_adaptive.transforms._measured import Measured
from tests.helpers.policies import constant_policy, random_weights
from tests.helpers.streams import STREAMS
from tests.references.learned_reference import LearnedReference


def found(scale, first_value=np.inf, deviation=np.inf):
    """What a search hands over; NaN is what range_test does not say."""
    numbers = jnp.log(scale), jnp.float32(first_value), jnp.float32(deviation)
    return Found(*numbers, jnp.array(True))


def begun(rule, known):
    """The rule, at whose first step a search has found a rate."""
    return rule._replace(
        init=lambda: rule.begin(rule.init(), known),
        initial_log_scale=known.log_scale,
    )


def measured(gap=0.0, has_gap=False):
    """What the wrappers hand down."""
    none = jnp.zeros((), jnp.float32)
    return Measured(
        averaging_gap=jnp.float32(gap),
        has_gap=jnp.asarray(has_gap),
        displacement=none,
        return_slope=none,
        gradient_size=none,
    )


def follow_alone(rule, values, gaps=None, sizes=None):
    """Factors of a rule that is handed what the wrappers would measure, by step."""
    tx = scale_by_controller(rule, min_scale=1e-10)
    values = np.float32(values)
    gaps = np.full(len(values), np.nan) if gaps is None else gaps
    sizes = np.ones(len(values)) if sizes is None else sizes

    def step(state, entries):
        value, gap, size = entries
        handed = measured(jnp.nan_to_num(gap), ~jnp.isnan(gap))
        _, state = tx.update(size, state, value=value, measured=handed)
        return state, lr_scale(state)

    entries = values, np.float32(gaps), np.float32(sizes)
    run = jax.jit(lambda entries: jax.lax.scan(step, tx.init(None), entries)[1])
    return np.asarray(run(entries))


@pytest.mark.parametrize("first_value", [None, 4.2])
@pytest.mark.parametrize("total_steps", [None, 450])
def test_matches_the_reference(total_steps, first_value):
    """From where a search has ended to a stream's end, a step at a time."""
    weights, deviation = random_weights(), 0.3
    values = np.concatenate([STREAMS[name] for name in ("holes", "decay", "valley")])
    steps = np.arange(len(values))
    rng = np.random.default_rng(0)
    gaps = 0.05 * values + rng.normal(0, 0.02, len(values))
    gaps[(steps % 3 == 0) | ~np.isfinite(values)] = np.nan
    sizes = np.exp(-0.4 * (steps // 90) + rng.normal(0, 0.1, len(values)))
    reference = LearnedReference(
        *(weights, math.log(0.03), first_value, deviation, total_steps)
    )
    expected = []
    for value, gap, size in zip(values, gaps, sizes, strict=True):
        expected.append(reference(value, None if np.isnan(gap) else gap, size))
    known = found(0.03, first_value or np.inf, deviation if first_value else np.inf)
    rule = begun(controllers.learned(total_steps, weights), known)
    scales = follow_alone(rule, values, gaps, sizes)
    # What is compared has moved, by windows of more than one size.
    moves = np.diff(np.flatnonzero(np.diff(expected)))
    assert {5, 6} <= set(moves) and np.ptp(expected) > 0.5
    assert np.any(reference.gap_features(False))
    np.testing.assert_allclose(np.log(scales), expected, atol=1e-4)


def test_opens_with_the_search_of_autotune():
    """And sizes it by the steps that there are, if so many are known."""

    def opening(rule):
        return jax.tree.map(np.asarray, rule.init().first_state)

    for total_steps in (None, 100, 2000):
        rule = controllers.learned(total_steps)
        other = controllers.search(total_steps if total_steps == 2000 else None)
        jax.tree.map(np.testing.assert_array_equal, opening(rule), other.init())
        assert rule.initial_log_scale == other.initial_log_scale
        asked = rule.request(rule.init())
        assert (int(asked.probe), int(asked.accumulation_size)) == (1, 1)
        assert rule.needs == ("with_averaging", "with_rollback")
        assert rule.name == "learned"


def test_begins_lower_than_autotune():
    """By searches that are alike but for the factor at the end."""
    scales = {}
    x = jnp.float32(np.random.default_rng(0).normal(size=(32, 4)))

    def loss_fn(params, noise):
        return jnp.mean(jnp.square(x @ (params - 1.0))) + noise

    for name in ("tuned", "learned"):
        make = {
            "tuned": lambda: controllers.tuned(),
            "learned": lambda: controllers.learned(weights=constant_policy(0.0)),
        }
        rule = scale_by_controller(make[name]())
        tx = with_averaging(with_rollback(optax.chain(optax.sgd(0.1), rule)))

        def step(carry, noise, tx=tx):
            params, state = carry
            loss, grads = jax.value_and_grad(loss_fn)(params, noise)
            updates, state = tx.update(grads, state, params, value=loss)
            return (optax.apply_updates(params, updates), state), None

        noises = np.float32(np.random.default_rng(1).normal(0, 0.05, 240))
        start = jnp.zeros(4), tx.init(jnp.zeros(4))
        (_, state), _ = jax.jit(lambda c, n, s=step: jax.lax.scan(s, c, n))(
            start, noises
        )
        numbers = summary(state)
        assert numbers["phase"] == 3
        scales[name] = float(numbers["found_scale"])
    assert scales["learned"] / scales["tuned"] == pytest.approx(0.5, rel=1e-3)


def test_never_goes_back_to_a_rate_that_blew_up():
    values = np.ones(180, np.float32)
    values[140:145] = np.inf
    rule = begun(controllers.learned(weights=constant_policy(9.0)), found(0.1))
    scales = follow_alone(rule, values)
    # Until then up to half of what is taken to be too high, ten times the rate found.
    np.testing.assert_allclose(scales[100:144], 0.5, rtol=1e-4)
    np.testing.assert_allclose(scales[144:], 0.25, rtol=1e-4)


def test_decisions_get_rarer_as_the_run_gets_longer():
    # Each after five steps, and then one in a thirty-second more.
    steps, weights = 3200, constant_policy(0.01)
    rule = begun(controllers.learned(weights=weights), found(0.1))
    moves = np.flatnonzero(np.diff(follow_alone(rule, np.ones(steps)))) + 1
    gaps = np.diff(moves)
    assert np.all(gaps[moves[:-1] < 192] == 5)
    late = moves[:-1] > 192
    np.testing.assert_array_equal(gaps[late], (moves[:-1][late] + 1) // 32)
    known = begun(controllers.learned(640, weights), found(0.1))
    moves = np.flatnonzero(np.diff(follow_alone(known, np.ones(640))))
    assert np.max(np.diff(moves)) == 640 // 64


# Of the small inputs SGD diverges at 1,000: ten decades above the lowest base rate.
@pytest.mark.slow
@pytest.mark.parametrize(
    ("optimizer", "size"), [(optax.adam, 1.0), (optax.sgd, 1.0), (optax.sgd, 0.03)]
)
def test_the_base_rate_hardly_matters(optimizer, size):
    rng = np.random.default_rng(0)
    x = size * jnp.float32(rng.normal(size=(256, 8)))
    y = x @ jnp.float32(rng.normal(size=8))
    steps = 600

    def loss_fn(params, index):
        return jnp.mean(jnp.square(x[index] @ params - y[index]))

    def run(base_rate):
        rule = scale_by_controller(controllers.learned(steps))
        tx = with_averaging(with_rollback(optax.chain(optimizer(base_rate), rule)))
        params = jnp.zeros(8)

        def step(carry, key):
            params, state = carry
            index = jax.random.randint(key, (16,), 0, 256)
            loss, grads = jax.value_and_grad(loss_fn)(params, index)
            updates, state = tx.update(grads, state, params, value=loss)
            return (optax.apply_updates(params, updates), state), None

        keys = jax.random.split(jax.random.key(0), steps)
        (params, state), _ = jax.lax.scan(step, (params, tx.init(params)), keys)
        averaged = eval_params(state, params)
        return loss_fn(averaged, jnp.arange(256)), lr_scale(state)

    # Adam mixes integers and floats.
    with jax.numpy_dtype_promotion("standard"):
        losses, scales = jax.jit(jax.vmap(run))(jnp.array([1e-7, 1e-4, 1e-1, 1e2]))
    assert jnp.all(losses < 0.05 * jnp.mean(jnp.square(y)))
    assert jnp.all(jnp.isfinite(scales))


def test_a_rate_whose_gap_is_above_the_decrease_comes_down():
    """As a policy that sees nothing else has it, and only where it is handed one."""
    linear = np.zeros(SIZE, np.float32)
    linear[NAMES.index("gap_above")] = -1.0
    weights = constant_policy(0.0)._replace(linear=linear)
    rule = begun(controllers.learned(weights=weights), found(0.1))
    values = 1 + 0.1 * np.random.default_rng(0).normal(size=400)
    with_gap = follow_alone(rule, values, np.full(400, 0.1))
    without = follow_alone(rule, values)
    assert with_gap[-1] < 0.1 * without[-1]
    np.testing.assert_allclose(without, 0.1, rtol=1e-5)


@pytest.mark.parametrize(("action", "highest"), [(0.0, 1.0), (1.0, 5.0)])
def test_a_rate_that_was_found_takes_the_place_of_the_search(action, highest):
    """The policy goes on from it, up to five times as high."""
    rule = controllers.then(
        controllers.range_test(start=0.1, stop=1.0),
        controllers.learned(weights=constant_policy(np.arctanh(0.9) * action)),
    )
    scales = follow_alone(rule, 2.0 - 0.001 * np.arange(500))
    (searched, *_) = np.flatnonzero(np.diff(scales) < 0)
    begins_at = scales[searched + 1]
    np.testing.assert_allclose(scales[-1], highest * begins_at, rtol=1e-3)
    assert np.all(np.diff(scales[searched + 1 :]) >= 0)
