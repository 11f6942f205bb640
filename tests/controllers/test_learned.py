"""learned against a slow reference, what was shipped, and what it is for."""

import hashlib
import json
import math
from importlib import resources
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st

from optax_adaptive import (
    _noise_cost,
    controllers,
    eval_params,
    lr_scale,
    scale_by_controller,
    with_averaging,
    with_rollback,
)
from optax_adaptive.controllers._features import NAMES, SIZE
from optax_adaptive.controllers._policy import PolicyWeights, act, shipped_weights
from tests.controllers.learned_reference import act_reference, learned_reference
from tests.controllers.windows_reference import assert_follows
from tests.follow import follow

FILE = resources.files("optax_adaptive.controllers") / "learned.json"


def random_weights(seed=0, size=0.1, hidden=5):
    rng = np.random.default_rng(seed)

    def normal(*shape):
        return np.float32(size * rng.normal(size=shape))

    return PolicyWeights(
        normal(SIZE),
        normal(SIZE, hidden),
        normal(hidden),
        normal(hidden),
        np.float32(0.1),
    )


def constant_policy(bias):
    """Always the same action."""
    zero = jax.tree.map(np.zeros_like, random_weights())
    return zero._replace(output_bias=np.float32(bias))


@pytest.mark.parametrize("accumulation_size", [1, 3])
@pytest.mark.parametrize("total_steps", [None, 150])
def test_matches_the_reference(total_steps, accumulation_size):
    weights = random_weights()
    tx = scale_by_controller(
        controllers.learned(total_steps, weights), accumulation_size=accumulation_size
    )
    assert_follows(
        tx,
        lambda: learned_reference(weights, total_steps or math.inf),
        accumulation_size,
        initial_scale=1e-4,
        rtol=0.05,  # differences compound
    )


@given(seed=st.integers(0, 1000))
def test_the_network_by_numpy(seed):
    weights = shipped_weights()
    seen = np.random.default_rng(seed).normal(size=SIZE)
    action = act(PolicyWeights(*map(jnp.asarray, weights)), jnp.float32(seen))
    assert float(action) == pytest.approx(act_reference(weights, seen), abs=1e-5)


def test_what_is_shipped_says_what_made_it():
    text = FILE.read_text()
    assert len(text) <= 64 * 1024
    document = json.loads(text)
    assert tuple(document["features"]) == NAMES
    assert "train_policy.py" in document["made_by"]["command"]
    log = Path(__file__).parents[2] / "examples" / "policy" / "log.jsonl"
    assert hashlib.sha256(log.read_bytes()).hexdigest() == document["log_sha256"]


def test_climbs_while_nothing_falls():
    values = 1 + np.random.default_rng(0).normal(0, 0.1, 10 * 20)
    tx = scale_by_controller(controllers.learned(), accumulation_size=20)
    scales, _ = follow(tx)(np.float32(values))
    assert scales[0] == pytest.approx(1e-4)
    assert scales[-1] > 1e-1


@pytest.mark.parametrize("above", [2.0, 0.7])  # the first loss, or below it
def test_the_climb_ends_at_the_edge_and_is_undone(above):
    rule = scale_by_controller(controllers.learned(), accumulation_size=20)
    tx = with_rollback(optax.chain(optax.sgd(1.0), rule))

    @jax.jit
    def step(params, state, noise):
        scale = lr_scale(state)
        loss = jnp.where(scale < 1e-2, 1.0, jnp.where(scale < 0.02, 0.6, 0.5))
        loss = jnp.where(scale < 0.05, loss, above)
        updates, state = tx.update(jnp.ones(()), state, params, value=loss + noise)
        return optax.apply_updates(params, updates), state

    params, scales = jnp.zeros(()), []
    state = tx.init(params)
    for noise in 0.1 * np.random.default_rng(0).normal(size=160):
        params, state = step(params, state, jnp.float32(noise))
        scales.append(float(lr_scale(state)))
        if scales[-1] < max(scales):
            break
    # The first rate at which the loss is higher, or the second if it is not so high.
    edge = 10**-1.0 if above > 1 else 10**-0.5
    np.testing.assert_allclose([max(scales), scales[-1]], [edge, edge / 10], rtol=1e-3)
    assert float(params) == 0.0


def tops_of_short_runs(loss_of_run):
    """First rates of the runs, and the answer, where the edge is at 0.1."""
    rule = scale_by_controller(controllers.learned(weights=constant_policy(0.0)))
    tx = with_rollback(optax.chain(optax.sgd(1.0), rule))

    @jax.jit
    def step(params, state, top, noise):
        scale = lr_scale(state)
        gain = jnp.where(scale < 1e-3, 0.2, 0.4)  # of the climb
        loss = jnp.where(scale < 0.1, 1.0 - gain, 3.0)
        loss = jnp.where(top > 0, loss_of_run(top), loss)
        updates, state = tx.update(jnp.ones(()), state, params, value=loss + noise)
        return optax.apply_updates(params, updates), state

    params, top, tops = jnp.zeros(()), 0.0, []
    state = tx.init(params)
    for noise in 0.02 * np.random.default_rng(0).normal(size=300):
        params, state = step(params, state, jnp.float32(top), jnp.float32(noise))
        if bool(state.snapshot.is_restored):
            assert float(params) == 0.0
            top = float(lr_scale(state))
            tops.append(top)
    return tops


@pytest.mark.parametrize("best", [1e-3, 1e-2, 3e-2])
def test_the_short_runs_say_where_below_the_edge_to_begin(best):
    tops = tops_of_short_runs(lambda top: 0.1 + 0.2 * jnp.square(jnp.log10(top / best)))
    assert 4 <= len(tops) <= 6  # three to five runs, and then the answer
    assert 0.5 * best < tops[-1] / 0.25 < 2.0 * best


@pytest.mark.parametrize("third, is_clear", [(0.5, True), (0.105, False)])
def test_a_run_above_the_first_once_one_below_is_worse_beyond_doubt(third, is_clear):
    below, above = 10**-2.5, 10**-1.5

    def loss_of_run(top):
        loss = jnp.where(top > below / 1.1, 0.11, third)  # noise may explain the second
        loss = jnp.where(top > below * 1.1, 0.1, loss)
        return jnp.where(top > above / 1.1, 0.0, loss)

    tops = tops_of_short_runs(loss_of_run)
    runs = [1e-2, below, 1e-3, above] if is_clear else [1e-2, below, 1e-3]
    np.testing.assert_allclose(tops[:-1], runs, rtol=1e-3)
    assert (tops[-1] > 0.24 * above) == is_clear


def test_never_goes_back_to_a_rate_that_blew_up():
    values = np.ones(180, np.float32)
    values[140:142] = np.inf  # the trials are over after 70
    tx = scale_by_controller(
        controllers.learned(weights=constant_policy(9.0)), accumulation_size=2
    )
    scales, _ = follow(tx)(values)
    assert scales[140] > 2 * scales[70]
    assert np.all(scales[141:] <= scales[140] / 2 * 1.0001)


def test_decisions_get_rarer_as_the_run_gets_longer():
    # With windows of 1 step: each for 32 steps, and then one in a thirty-second more.
    # The trials are over after 61.
    steps = 3200
    rule = controllers.learned(weights=constant_policy(0.01))
    tx = scale_by_controller(rule, accumulation_size=1)
    scales, _ = follow(tx)(np.ones(steps, np.float32))
    moves = np.count_nonzero(np.diff(scales[61:]))
    assert 0.6 < moves / (32 * math.log(3200 / 61)) < 1.6
    known = controllers.learned(total_steps=320, weights=constant_policy(0.01))
    tx = scale_by_controller(known, accumulation_size=1)
    scales, _ = follow(tx)(np.ones(320, np.float32))
    assert np.all(np.diff(np.flatnonzero(np.diff(scales[51:]))) <= 320 // 64 + 1)


# Of the small inputs SGD diverges at 1,000: ten decades above the lowest base rate.
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
        rule = scale_by_controller(controllers.learned(steps), accumulation_size=10)
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


def test_a_rate_at_which_noise_costs_more_than_is_won_comes_down():
    """As a policy that sees nothing else has it, and only where it is told."""
    linear = np.zeros(SIZE, np.float32)
    linear[NAMES.index("cost_above")] = -1.0
    weights = constant_policy(0.0)._replace(linear=linear)
    tx = scale_by_controller(controllers.learned(weights=weights), accumulation_size=2)

    def scales(is_told):
        def step(state, value):
            cost = _noise_cost.NoiseCost(jnp.float32(0.1), jnp.asarray(is_told))
            _, state = tx.update(jnp.ones(()), state, value=value, noise_cost=cost)
            return state, lr_scale(state)

        values = 1 + 0.1 * jax.random.normal(jax.random.key(0), (600,))
        return jax.lax.scan(step, tx.init(None), values)[1]

    told, untold = jax.jit(scales)(True), jax.jit(scales)(False)
    np.testing.assert_array_equal(told[:58], untold[:58])  # the trials
    assert told[-1] < 0.1 * untold[-1]
    assert untold[-1] == untold[150]


@pytest.mark.parametrize(("action", "highest"), [(0.0, 1.0), (1.0, 5.0)])
def test_a_rate_that_was_found_takes_the_place_of_the_trials(action, highest):
    """The policy goes on from it, up to where the best short run would have been."""
    rule = controllers.then(
        controllers.range_test(start=0.1, stop=1.0),
        controllers.learned(weights=constant_policy(np.arctanh(0.9) * action)),
    )
    tx = scale_by_controller(rule, accumulation_size=1)
    scales = follow(tx)(np.float32(2.0 - 0.005 * np.arange(200)))[0]
    (searched, *_) = np.flatnonzero(np.diff(scales) <= 0)
    found = scales[searched + 1]
    np.testing.assert_allclose(scales[-1], highest * found, rtol=1e-3)
    assert np.all(np.diff(scales[searched + 1 :]) >= 0)


def test_bad_input():
    with pytest.raises(ValueError, match="total_steps"):
        controllers.learned(total_steps=0)
    weights = random_weights()._replace(linear=np.zeros(3, np.float32))
    with pytest.raises(ValueError, match=r"weights.linear must have the shape \(18,\)"):
        controllers.learned(weights=weights)
    weights = random_weights(hidden=5)._replace(hidden_bias=np.zeros(4, np.float32))
    with pytest.raises(ValueError, match=r"weights.hidden_bias must have the shape"):
        controllers.learned(weights=weights)
    weights = random_weights()._replace(output_bias=np.float32(np.nan))
    with pytest.raises(ValueError, match="weights.output_bias must be finite"):
        controllers.learned(weights=weights)
