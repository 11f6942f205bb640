"""with_averaging: the average against a slow reference, and its reader."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import optax_adaptive
from tests.references.averaging_reference import interpolated_reference, reference

pytestmark = pytest.mark.usefixtures("standard_promotion")


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


@pytest.mark.parametrize(
    ("fraction", "steps", "taken_in"),
    [(0.01, 51, 50), (0.1, 51, 50), (1.0, 51, 50), (1.0, 400, 145)],
)
def test_matches_the_reference(fraction, steps, taken_in):
    tx = optax_adaptive.with_averaging(optax.sgd(0.1), fraction=fraction)
    params, state, seen = run(tx, jnp.ones(3), steps)
    # The newest are taken in by the next update, which is handed them.
    averaged = [np.asarray(p, np.float64) for p in seen[:-1]]
    want, count = reference(averaged, fraction)
    assert count == taken_in
    np.testing.assert_allclose(
        optax_adaptive.eval_params(state, params), want, rtol=1e-5
    )


def test_training_is_not_changed():
    bare, _, _ = run(optax.chain(optax.adam(0.1)), jnp.ones(3), 20)
    averaged, _, _ = run(
        optax_adaptive.with_averaging(optax.adam(0.1)), jnp.ones(3), 20
    )
    np.testing.assert_array_equal(bare, averaged)


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
    want, _ = interpolated_reference(np.ones(3), grads, 0.1, 0.2, interpolation)
    np.testing.assert_allclose(np.stack(seen), want, atol=1e-5)
    # The newest are taken in by the next update, which is handed them.
    _, mean = interpolated_reference(np.ones(3), grads[:-1], 0.1, 0.2, interpolation)
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


def test_flatten_around_it_is_named():
    tx = optax.flatten(optax_adaptive.with_averaging(optax.sgd(0.1)))
    params = {"w": jnp.ones(3), "b": jnp.ones(())}
    with pytest.raises(ValueError, match=r"optax.flatten is around the optimizer"):
        optax_adaptive.eval_params(tx.init(params), params)


@pytest.mark.filterwarnings("error")
def test_params_of_numpy_in_float64_do_not_warn():
    tx = optax_adaptive.with_averaging(optax.sgd(0.1))
    params = {"w": np.ones(3)}
    state = tx.init(params)
    updates, state = tx.update({"w": np.ones(3)}, state, params)
    optax_adaptive.eval_params(state, optax.apply_updates(params, updates))


@pytest.mark.parametrize("interpolation", [0.0, 0.8])
def test_a_return_restarts_the_average(interpolation):
    tx = optax_adaptive.with_averaging(
        optax_adaptive.with_rollback(optax.sgd(1.0)), interpolation=interpolation
    )
    start = params = jnp.array([2.0, -1.0])
    state, seen = tx.init(params), []
    for value in (1.0, *[jnp.nan] * 10, 1.0, 1.0, 1.0, 1.0):
        grads = jnp.array([1e9, 1.0])
        updates, state = tx.update(grads, state, params, value=value)
        params = optax.apply_updates(params, updates)
        seen.append((params, optax_adaptive.eval_params(state, params)))
    (afar, far_average), *returned, (moved, first), (_, later) = seen[-5:]
    np.testing.assert_array_equal(afar, far_average)
    # The second return arrives, and an update later the loss there is known.
    for there in (*returned, first):
        np.testing.assert_array_equal(there, np.broadcast_to(start, np.shape(there)))
    # It takes in what is handed in: by the next update the one after the return.
    assert (moved < start).all() and (later < start).all() and (later > moved).all()


@pytest.mark.parametrize("steps", [10**6, 2**24, 2**31 - 10])
def test_an_average_of_any_age_moves(steps):
    fraction, start, target = 0.05, jnp.ones(3), jnp.full(3, 1.001)
    tx = optax_adaptive.with_averaging(optax.set_to_zero(), fraction=fraction)
    every = 2 ** int(np.log2(fraction * steps / 32))
    before = steps // every * every  # when it next takes them in, or did so last
    state = tx.init(start)
    averaging = state.averaging._replace(
        averaged_params=start,
        averaged_steps=jax.tree.map(
            lambda count: jnp.full_like(count, before + 1),
            state.averaging.averaged_steps,
        ),
    )
    state = state._replace(averaging=averaging)
    _, state = jax.jit(tx.update)(jnp.zeros(3), state, target)
    moved = (optax_adaptive.eval_params(state, target) - start) / (target - start)
    share = 1.0 - 2.0 ** (-every / (fraction * before))
    assert 1 / 100 < share < 1 / 40
    np.testing.assert_allclose(moved, share, rtol=0.02)


def test_states_with_a_leading_axis_are_read_one_by_one():
    tx = optax_adaptive.with_averaging(optax.sgd(0.1))
    params = jnp.arange(9.0).reshape(3, 3)  # as many runs as entries
    states = jax.vmap(tx.init)(params)
    _, moved = jax.vmap(tx.update)(params, states, params)
    _, moved = jax.vmap(tx.update)(params, moved, 0.9 * params)
    # One of the three has begun.
    states = jax.tree.map(lambda a, b: a.at[1].set(b[1]), states, moved)
    read = optax_adaptive.eval_params(states, params)
    np.testing.assert_allclose(read[::2], params[::2])
    np.testing.assert_allclose(read[1], 0.9 * params[1], rtol=1e-6)


def test_integers_and_other_trees():
    tx = optax_adaptive.with_averaging(optax.set_to_zero())
    params = {"w": jnp.ones(2), "n": jnp.array([2**24 + 1])}
    state, zeros = tx.init(params), jax.tree.map(jnp.zeros_like, params)
    for _ in range(2):
        _, state = tx.update(zeros, state, params)
    read = optax_adaptive.eval_params(state, params)
    np.testing.assert_array_equal(read["n"], params["n"])
    with pytest.raises(ValueError, match="of 2 leaves, but they have 1"):
        optax_adaptive.eval_params(state, params["w"])


def test_leaves_that_no_optimizer_was_given_stay_as_they_are():
    layers = [eqx.nn.Linear(2, 2, key=jax.random.key(0)), eqx.nn.Dropout(0.5)]
    model = eqx.nn.Sequential(layers)
    tx = optax_adaptive.with_averaging(optax.sgd(0.1))
    params = eqx.filter(model, eqx.is_inexact_array)
    state = tx.init(params)
    for _ in range(2):
        _, state = tx.update(params, state, params)
    read = optax_adaptive.eval_params(state, model)
    assert read[1].inference is model[1].inference and type(read[1].p) is float
    eqx.filter_jit(lambda model, x: model(x, key=jax.random.key(0)))(read, jnp.ones(2))


@pytest.mark.parametrize("interpolation", [0.0, 0.5])
def test_interpolation_may_be_an_array(interpolation):
    for kind in (np.float32, jnp.float32):
        tx = optax_adaptive.with_averaging(
            optax.sgd(0.1), interpolation=kind(interpolation)
        )
        params, state, _ = run(tx, jnp.ones(3), 3)
        assert np.isfinite(optax_adaptive.eval_params(state, params)).all()


def test_inside_with_rollback_rules_see_no_spike():
    rule = optax_adaptive.controllers.trend()
    chain = optax.chain(
        optax.sgd(0.1), optax_adaptive.scale_by_controller(rule, accumulation_size=5)
    )
    values = np.full(60, 1.0, np.float32)
    values[30:38] = np.nan  # fewer than are a spike

    def scale(tx):
        def step(state, value):
            _, state = tx.update(jnp.ones(2), state, jnp.ones(2), value=value)
            return state, None

        state, _ = jax.lax.scan(step, tx.init(jnp.ones(2)), values)
        return optax_adaptive.lr_scale(state)

    inside = optax_adaptive.with_averaging(optax_adaptive.with_rollback(chain))
    around = optax_adaptive.with_rollback(optax_adaptive.with_averaging(chain))
    assert scale(chain) == 0.5  # which takes them for a blow-up
    assert scale(inside) == scale(around) == 1.0


def test_an_optimizer_inside_gets_the_loss_as_it_is():
    tx = optax_adaptive.with_averaging(optax.polyak_sgd(max_learning_rate=10.0))
    params = jnp.ones(2)

    def first_update(value):
        return tx.update(params, tx.init(params), params, value=value)[0][0]

    slope = jax.grad(lambda value: first_update(value))(jnp.float32(1.0))
    np.testing.assert_allclose(slope, -0.5, rtol=1e-5)  # -value / |gradient|^2


@pytest.mark.parametrize("value", [jnp.ones(3), np.ones(3), jnp.ones((), complex)])
def test_a_loss_that_is_not_one_real_number_is_refused(value):
    tx, params = optax_adaptive.with_averaging(optax.sgd(0.1)), jnp.ones(2)
    with pytest.raises((ValueError, TypeError), match="`value` must be"):
        tx.update(params, tx.init(params), params, value=value)
