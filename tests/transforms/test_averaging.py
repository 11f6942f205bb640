"""with_averaging: the average against a slow reference, and its reader."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import optax_adaptive
from optax_adaptive import Request
from tests.helpers.spy import spy

pytestmark = pytest.mark.usefixtures("optimized")


@pytest.fixture(autouse=True)
def standard_promotion():
    """Adam mixes integers and floats; so does any real training."""
    with jax.numpy_dtype_promotion("standard"):
        yield


def reference(params, fraction):
    """The average of a sequence of parameters, in float64, and how many it took in."""
    mean, count = params[0], 1
    for steps, newest in enumerate(params[1:], start=1):
        half_life = fraction * steps + 1.0
        # At least 32 parameters a half-life, at intervals of a power of two.
        every = 1
        while 64 * every <= half_life:
            every *= 2
        if steps % every == 0:
            weight = 1.0 - 2.0 ** (-every / half_life)
            mean, count = mean + weight * (newest - mean), count + 1
    return mean, count


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
    start = params = jnp.array([2.0, -1.0])
    state, seen = tx.init(params), []
    for value in (1.0, jnp.nan, jnp.nan, 1.0, 1.0, 1.0):
        grads = jnp.array([1e9, 1.0])
        updates, state = tx.update(grads, state, params, value=value)
        params = optax.apply_updates(params, updates)
        seen.append((params, optax_adaptive.eval_params(state, params)))
    _, _, (afar, far_average), (back, average), (moved, first), (_, later) = seen
    np.testing.assert_array_equal(afar, far_average)
    for there in (back, average, first):  # the second return arrives
        np.testing.assert_array_equal(there, start)
    # It takes in what is handed in: by the next update the one after the return.
    assert (moved < start).all() and (later < start).all() and (later > moved).all()


@pytest.mark.parametrize("interpolation", [0.0, 0.8])
def test_rules_inside_are_handed_the_averaging_gap(interpolation):
    """(params - average) · gradient of the average with these params in it."""
    rule, seen = spy()
    scale = optax_adaptive.scale_by_controller(rule, accumulation_size=4)
    tx = optax_adaptive.with_averaging(
        optax.chain(optax.sgd(0.1), scale), interpolation=interpolation
    )
    params, rng = jnp.ones(3), np.random.default_rng(0)
    state, update = tx.init(params), jax.jit(tx.update)
    gaps = [[] for _ in range(10)]
    for step in range(40):
        grads = jnp.float32(rng.normal(size=3))
        updates, state = update(grads, state, params, value=jnp.ones(()))
        # Where params are interpolated, at every fourth update.
        if step > 1 and (not interpolation or step % 4 == 0):
            ahead = params - optax_adaptive.eval_params(state, params)
            # In between: 1 / (1 - b) times as much at what the optimizer moves.
            gap = float(ahead @ grads) / (1.0 - interpolation) ** 0.5
            gaps[step // 4].append(gap)
        params = optax.apply_updates(params, updates)
    jax.effects_barrier()
    assert [bool(o.has_averaging_gap) for o in seen] == [bool(gap) for gap in gaps]
    handed = [float(o.averaging_gap) for o in seen]
    want = [np.mean(gap) if gap else 0.0 for gap in gaps]
    np.testing.assert_allclose(handed, want, rtol=1e-3, atol=1e-5)


def request(**fields):
    """That of a rule, always the same."""
    asked = Request(0, False, False, False, 1.0, False, 0)._replace(**fields)
    return lambda state: asked


def asking(**fields):
    """SGD with a rule that holds, and asks for ``fields``; its observations."""
    rule, seen = spy()
    scaling = optax_adaptive.scale_by_controller(
        rule._replace(request=request(**fields)), accumulation_size=1
    )
    return optax.chain(optax.sgd(0.1), scaling), seen


def run_with_value(tx, params, steps):
    """As ``run``, of a constant loss; states as well."""
    state, seen = tx.init(params), []
    update, rng = jax.jit(tx.update), np.random.default_rng(0)
    for _ in range(steps):
        grads = jnp.asarray(rng.normal(size=params.shape), params.dtype)
        updates, state = update(grads, state, params, value=1.0)
        params = optax.apply_updates(params, updates)
        seen.append((params, state))
    return seen


@pytest.mark.parametrize("interpolation", [0.0, 0.8])
def test_while_a_rule_probes_there_is_no_average(interpolation):
    tx, observations = asking(probe=2)
    tx = optax_adaptive.with_averaging(tx, interpolation=interpolation)
    bare, _ = asking()
    seen = run_with_value(tx, jnp.ones(3), 10)
    expected = run_with_value(optax.chain(bare), jnp.ones(3), 10)
    for (params, state), (want, _) in zip(seen, expected, strict=True):
        np.testing.assert_allclose(params, want, rtol=1e-6)  # nor is any in between
        np.testing.assert_array_equal(optax_adaptive.eval_params(state, params), params)
    jax.effects_barrier()
    assert not any(o.has_averaging_gap for o in observations)
    assert not any(o.displacement for o in observations)


def test_while_a_rule_calibrates_it_is_handed_how_far_updates_move():
    tx, observations = asking(probe=1)
    seen = run_with_value(optax_adaptive.with_averaging(tx), jnp.ones(3), 10)
    jax.effects_barrier()
    points = [np.ones(3), *(np.asarray(params) for params, _ in seen[:-1])]
    moves = np.linalg.norm(np.diff(points, axis=0), axis=1)
    want = moves / (1.0 + np.linalg.norm(points[1:], axis=1))
    handed = [float(o.displacement) for o in observations]
    np.testing.assert_allclose(handed[1:], want, rtol=1e-5)


def test_a_rule_asks_for_another_half_life():
    tx, _ = asking(half_life=3.0)
    params, state = run_with_value(
        optax_adaptive.with_averaging(tx, fraction=0.1), jnp.ones(3), 40
    )[-1]
    bare, _ = asking()
    longer = optax_adaptive.with_averaging(bare, fraction=0.3)
    same, expected = run_with_value(longer, jnp.ones(3), 40)[-1]
    np.testing.assert_array_equal(params, same)
    np.testing.assert_allclose(
        optax_adaptive.eval_params(state, params),
        optax_adaptive.eval_params(expected, params),
        rtol=1e-5,
    )


def test_where_a_rule_says_that_it_lags_the_average_is_not_read():
    tx, _ = asking(average_lags=True)
    params, state = run_with_value(optax_adaptive.with_averaging(tx), jnp.ones(3), 20)[
        -1
    ]
    read = optax_adaptive.eval_params(state, params)
    np.testing.assert_array_equal(read, params)
    assert not np.allclose(state.averaging.averaged_params, params, rtol=1e-3)


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


def test_batch_stats_are_averaged_in_float32_and_keep_their_dtype():
    batches = [jnp.bfloat16(x) for x in [1.0] + 19 * [1.01]]
    stats = optax_adaptive.recompute_batch_stats(lambda batch: batch, batches)
    assert stats.dtype == jnp.bfloat16
    mean = np.mean([float(batch) for batch in batches])
    assert abs(float(stats) - mean) < 0.004  # half of bfloat16's step
    counts = optax_adaptive.recompute_batch_stats(jnp.int32, [1, 2, 3])
    assert counts.dtype == jnp.int32 and counts == 2
