"""with_averaging: the average against a slow reference, and its reader."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import optax_adaptive
from tests.spy import spy

pytestmark = pytest.mark.usefixtures("optimized")


@pytest.fixture(autouse=True)
def standard_promotion():
    """Adam mixes integers and floats; so does any real training."""
    with jax.numpy_dtype_promotion("standard"):
        yield


def reference(params, fraction):
    """The average of a sequence of parameters, in float64."""
    mean = params[0]
    for steps, newest in enumerate(params[1:], start=1):
        weight = 1.0 - 2.0 ** (-1.0 / (fraction * steps + 1.0))
        mean = mean + weight * (newest - mean)
    return mean


def run(tx, params, steps, seed=0):
    state, seen = tx.init(params), []
    update = jax.jit(tx.update)
    rng = np.random.default_rng(seed)
    for _ in range(steps):
        grads = jax.tree.map(
            lambda p: jnp.asarray(rng.normal(size=p.shape), p.dtype), params
        )
        updates, state = update(grads, state, params)
        params = optax.apply_updates(params, updates)
        seen.append(params)
    return params, state, seen


@pytest.mark.parametrize("fraction", [0.01, 0.1, 1.0])
def test_matches_the_reference(fraction):
    tx = optax_adaptive.with_averaging(optax.sgd(0.1), fraction=fraction)
    params, state, seen = run(tx, jnp.ones(3), 50)
    want = reference([np.asarray(p, np.float64) for p in seen], fraction)
    np.testing.assert_allclose(
        optax_adaptive.eval_params(state, params), want, rtol=1e-5
    )


def test_training_is_not_changed():
    bare, _, _ = run(optax.chain(optax.adam(0.1)), jnp.ones(3), 20)
    averaged, _, _ = run(
        optax_adaptive.with_averaging(optax.adam(0.1)), jnp.ones(3), 20
    )
    np.testing.assert_array_equal(bare, averaged)


def interpolated_reference(params, grads, rate, fraction, interpolation):
    """The three sequences of Schedule-Free SGD, each kept by itself, in float64."""
    point = mean = params
    seen = []
    for steps, grad in enumerate(grads):
        point = point - rate * grad
        weight = 1.0 - 2.0 ** (-1.0 / (fraction * steps + 1.0)) if steps else 1.0
        mean = mean + weight * (point - mean)
        seen.append((1.0 - interpolation) * point + interpolation * mean)
    return seen, mean


@pytest.mark.parametrize("interpolation", [0.3, 0.8])
def test_interpolation_matches_the_reference(interpolation):
    tx = optax_adaptive.with_averaging(
        optax.sgd(0.1), fraction=0.2, interpolation=interpolation
    )
    rng = np.random.default_rng(0)
    grads = rng.normal(size=(60, 3))
    params, state, seen = jnp.ones(3), tx.init(jnp.ones(3)), []
    for grad in grads:
        updates, state = tx.update(jnp.asarray(grad, jnp.float32), state, params)
        params = optax.apply_updates(params, updates)
        seen.append(params)
    want, mean = interpolated_reference(np.ones(3), grads, 0.1, 0.2, interpolation)
    np.testing.assert_allclose(np.stack(seen), want, atol=1e-5)
    np.testing.assert_allclose(
        optax_adaptive.eval_params(state, params), mean, atol=1e-5
    )


def test_interpolation_may_be_traced():
    def last(interpolation):
        tx = optax_adaptive.with_averaging(optax.sgd(0.1), interpolation=interpolation)
        return run(tx, jnp.ones(3), 5)[0]

    traced = jax.vmap(last)(jnp.array([0.0, 0.8]))
    np.testing.assert_allclose(traced, [last(0.0), last(0.8)], rtol=1e-6)


def test_half_life_is_a_fraction_of_the_elapsed_time():
    """After a jump at step t, a tenth of t later half of it is in the average."""
    tx = optax_adaptive.with_averaging(optax.sgd(1.0), fraction=0.1)

    def step(carry, grad):
        params, state = carry
        updates, state = tx.update(grad, state, params)
        params = optax.apply_updates(params, updates)
        return (params, state), optax_adaptive.eval_params(state, params)

    grads = jnp.zeros(1200).at[1000].set(-1.0)
    params = jnp.zeros(())
    _, means = jax.lax.scan(step, (params, tx.init(params)), grads)
    assert abs(float(means[1100]) - 0.5) < 0.03


def test_coarse_params_are_averaged_in_float32():
    tx = optax_adaptive.with_averaging(optax.sgd(2.0**-9), fraction=1.0)
    params = {"w": jnp.ones(2, jnp.bfloat16), "b": jnp.ones(2)}
    params, state, _ = run(tx, params, 3)
    dtypes = jax.tree.map(lambda x: x.dtype, state[1].averaged_params)
    assert dtypes == {"w": jnp.float32, "b": jnp.float32}
    evaluated = optax_adaptive.eval_params(state, params)
    assert evaluated["w"].dtype == jnp.bfloat16


def test_before_the_first_update_it_gives_the_params():
    tx = optax_adaptive.with_averaging(optax.sgd(0.1))
    params = {"w": jnp.arange(3.0)}
    evaluated = optax_adaptive.eval_params(tx.init(params), params)
    np.testing.assert_array_equal(evaluated["w"], params["w"])


def test_batch_stats_are_the_mean_over_batches():
    batches = [jnp.arange(4.0) + i for i in range(5)]
    stats = optax_adaptive.recompute_batch_stats(
        lambda x: {"mean": x.mean(), "var": x.var()}, batches
    )
    assert float(stats["mean"]) == pytest.approx(3.5)
    assert float(stats["var"]) == pytest.approx(1.25)
    with pytest.raises(ValueError, match="at least one batch"):
        optax_adaptive.recompute_batch_stats(lambda x: x, [])


def test_bad_input():
    with pytest.raises(ValueError, match="fraction"):
        optax_adaptive.with_averaging(optax.sgd(0.1), fraction=0.0)
    for interpolation in (-0.1, 1.0, float("nan")):
        with pytest.raises(ValueError, match="interpolation must be in"):
            optax_adaptive.with_averaging(optax.sgd(0.1), interpolation=interpolation)
    tx = optax_adaptive.with_averaging(optax.sgd(0.1))
    params = jnp.ones(2)
    with pytest.raises(ValueError, match="params"):
        tx.update(params, tx.init(params))
    with pytest.raises(ValueError, match="found 0"):
        optax_adaptive.eval_params(optax.adam(0.1).init(params), params)


@pytest.mark.parametrize("interpolation", [0.0, 0.8])
def test_a_return_restarts_the_average(interpolation):
    tx = optax_adaptive.with_averaging(
        optax_adaptive.with_rollback(optax.sgd(1.0)), interpolation=interpolation
    )
    params = jnp.array([2.0, -1.0])
    start, state = params, tx.init(params)
    for value in (1.0, jnp.nan, jnp.nan):
        grads = jnp.array([1e9, 1.0])
        updates, state = tx.update(grads, state, params, value=value)
        params = optax.apply_updates(params, updates)
    averaged = optax_adaptive.eval_params(state, params)
    np.testing.assert_array_equal(averaged, params)
    updates, state = tx.update(jnp.zeros(2), state, params, value=1.0)
    params = optax.apply_updates(params, updates)
    np.testing.assert_array_equal(params, start)


@pytest.mark.parametrize("interpolation", [0.0, 0.8])
def test_rules_inside_are_told_what_noise_costs(interpolation):
    rule, seen = spy()
    scale = optax_adaptive.scale_by_controller(rule, accumulation_size=4)
    tx = optax_adaptive.with_averaging(
        optax.chain(optax.sgd(0.1), scale), interpolation=interpolation
    )
    params, rng = jnp.ones(3), np.random.default_rng(0)
    state, update, want = tx.init(params), jax.jit(tx.update), []
    for step in range(40):
        grads = jnp.float32(rng.normal(size=3))
        if step and step % 4 == 0:
            ahead = params - optax_adaptive.eval_params(state, params)
            # In between: 1 / (1 - b) times as much at what the optimizer moves.
            want.append(float(ahead @ grads) / (1.0 - interpolation) ** 0.5)
        updates, state = update(grads, state, params, value=jnp.ones(()))
        params = optax.apply_updates(params, updates)
    jax.effects_barrier()
    assert [bool(o.has_noise_cost) for o in seen] == [False] + [True] * 9
    told = [float(o.noise_cost) for o in seen[1:]]
    np.testing.assert_allclose(told, want, rtol=1e-3, atol=1e-5)


def test_states_with_a_leading_axis_are_read_one_by_one():
    tx = optax_adaptive.with_averaging(optax.sgd(0.1))
    params = jnp.arange(9.0).reshape(3, 3)  # as many runs as entries
    states = jax.vmap(tx.init)(params)
    _, moved = jax.vmap(tx.update)(params, states, params)
    # One of the three has begun.
    states = jax.tree.map(lambda a, b: a.at[1].set(b[1]), states, moved)
    read = optax_adaptive.eval_params(states, params)
    np.testing.assert_allclose(read[::2], params[::2])
    np.testing.assert_allclose(read[1], 0.9 * params[1], rtol=1e-6)


def test_integers_and_other_trees():
    tx = optax_adaptive.with_averaging(optax.set_to_zero())
    params = {"w": jnp.ones(2), "n": jnp.array([2**24 + 1])}
    _, state = tx.update(jax.tree.map(jnp.zeros_like, params), tx.init(params), params)
    read = optax_adaptive.eval_params(state, params)
    np.testing.assert_array_equal(read["n"], params["n"])
    with pytest.raises(ValueError, match="of 2 leaves, but they have 1"):
        optax_adaptive.eval_params(state, params["w"])


def test_batch_stats_are_averaged_in_float32_and_keep_their_dtype():
    batches = [jnp.bfloat16(x) for x in [1.0] + 19 * [1.01]]
    stats = optax_adaptive.recompute_batch_stats(lambda batch: batch, batches)
    assert stats.dtype == jnp.bfloat16
    mean = np.mean([float(batch) for batch in batches])
    assert abs(float(stats) - mean) < 0.004  # half of bfloat16's step
    counts = optax_adaptive.recompute_batch_stats(jnp.int32, [1, 2, 3])
    assert counts.dtype == jnp.int32 and counts == 2
