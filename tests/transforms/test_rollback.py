"""with_rollback: blow-ups are undone, and what no rate has done is skipped."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import optax_adaptive
from optax_adaptive import controllers
from optax_adaptive._controller import nothing
from tests.helpers.loop import run

pytestmark = pytest.mark.usefixtures("standard_promotion")


BURST = [jnp.nan] * 10  # as many as are a spike


def test_returns_to_the_snapshot_exactly():
    tx = optax_adaptive.with_rollback(optax.adam(0.1), backoff=0.25)
    params = {"w": jnp.arange(4.0), "b": jnp.array(0.5, jnp.bfloat16)}
    grads = jax.tree.map(jnp.ones_like, params)
    values = [1.0, 1.0, 1.0, *BURST, 1.0, 1.0, 1.0]
    seen, state = run(tx, params, [grads] * len(values), values)
    for returned in seen[12:15]:  # a return takes two updates, a look at the loss one
        jax.tree.map(np.testing.assert_array_equal, returned, params)
    assert int(state.snapshot.rollbacks) == 1
    fresh = optax.adam(0.1)
    _, begun = fresh.update(jax.tree.map(jnp.zeros_like, grads), fresh.init(params))
    updates, _ = fresh.update(grads, begun)
    moved = params["w"] + updates["w"] / 10  # the rate is not to blame yet
    np.testing.assert_allclose(seen[15]["w"], moved, rtol=1e-6)


def rolled_back_twice(gap, burst, backoff=0.25):
    """Params and state after bursts of non-finite losses, ``gap`` updates apart."""
    tx = optax_adaptive.with_rollback(optax.sgd(1.0), backoff=backoff)
    values = [1.0] * 40 + burst + [1.0] * gap + burst + [1.0] * 20
    seen, state = run(tx, jnp.zeros(()), [jnp.ones(())] * len(values), values)
    return np.diff(seen, prepend=0.0), state


@pytest.mark.parametrize(("gap", "expected"), [(60, 0.25), (400, 1.0)])
def test_a_second_spike_on_probation_backs_off(gap, expected):
    # As long as it went well, 50 updates, or 100 if that is more.
    updates, state = rolled_back_twice(gap, BURST)
    assert int(state.snapshot.rollbacks) == 2
    np.testing.assert_allclose(updates[-5:], -expected, rtol=1e-4)


@pytest.mark.parametrize("length", [13, 100])
def test_a_burst_that_goes_on_at_the_copy_acquits_the_rate(length):
    updates, state = rolled_back_twice(60, [jnp.nan] * length)
    assert int(state.snapshot.rollbacks) == 2
    np.testing.assert_allclose(updates[-5:], -1.0, rtol=1e-4)


@pytest.mark.parametrize("bad", [jnp.nan, jnp.inf])
def test_fewer_non_finite_losses_cost_their_steps(bad):
    updates, state = rolled_back_twice(60, [bad] * 9)
    assert int(state.snapshot.rollbacks) == 0
    is_skipped = np.r_[np.arange(40, 49), np.arange(109, 118)]
    np.testing.assert_array_equal(np.flatnonzero(updates == 0.0), is_skipped)


def test_losses_that_are_no_more_normal_are_waited_for_and_then_believed():
    tx = optax_adaptive.with_rollback(optax.sgd(1.0))
    noise = 0.1 * np.random.default_rng(0).normal(size=400)
    values = 1.0 + noise + 50.0 * (np.arange(400) >= 200)
    seen, state = run(tx, jnp.zeros(()), [jnp.ones(())] * 400, values)
    updates = np.diff(seen, prepend=0.0)
    assert int(state.snapshot.rollbacks) == 1
    waited = np.flatnonzero(updates[212:] == 0.0).size
    assert 65 <= waited <= 80  # 50, and a tenth of the updates so far
    np.testing.assert_allclose(updates[-50:], -1.0, rtol=1e-4)


def correlated(rng):
    """Losses that are alike in a neighbourhood, as of data that are not shuffled."""
    noise = rng.normal(size=5000)
    for place in range(1, 5000):
        noise[place] += 0.9 * noise[place - 1]
    return 1.0 + 0.05 * noise


@pytest.mark.parametrize(
    "draw",
    [
        lambda rng: rng.exponential(size=5000),
        lambda rng: rng.lognormal(sigma=1.5, size=5000),
        lambda rng: np.abs(rng.standard_t(2, size=5000)),
        lambda rng: 1.0 * (rng.random(5000) < 0.03),  # mostly exactly 0
        correlated,
    ],
    ids=["exponential", "log-normal", "Student", "rare", "correlated"],
)
def test_noise_that_is_not_normal_is_hardly_taken_for_a_rise(draw):
    tx = optax_adaptive.with_rollback(optax.sgd(0.0))
    params, grads = jnp.zeros(()), jnp.ones(())

    @jax.jit
    def waits(values):
        def step(state, value):
            _, state = tx.update(grads, state, params, value=value)
            return state, optax_adaptive.summary(state)["is_waiting"]

        return jax.lax.scan(step, tx.init(params), values)[1].mean()

    values = [draw(np.random.default_rng(seed)) for seed in range(4)]
    shares = [float(waits(jnp.asarray(each, jnp.float32))) for each in values]
    # It was 17, 28 and 52% of the second, third and last, with the smallest noise of
    # any copy as the measure.
    assert np.mean(shares) < 0.06


@pytest.mark.parametrize(
    ("height", "length", "expected"),
    [
        (0.005, 90, 0),  # a leap of Adam without noise, fifty times the usual loss
        (0.005, 250, 1),  # it does not pass by itself
        (0.05, 50, 1),  # more than a hundredth of the decrease from 1 to 1e-4
    ],
)
def test_small_rises_may_pass_where_a_rule_asks_for_it(height, length, expected):
    rule = controllers.constant()._replace(
        request=lambda state: nothing()._replace(small_rise=jnp.float32(0.01))
    )
    chain = optax.chain(optax.sgd(1.0), optax_adaptive.scale_by_controller(rule))
    tx = optax_adaptive.with_rollback(chain)
    time = np.arange(600)
    values = np.maximum(10.0 ** (-time / 50), 1e-4) * (1 - 1e-5 * time)
    values[400 : 400 + length] += height
    _, state = run(tx, jnp.zeros(()), [jnp.ones(())] * 600, values)
    assert int(state.snapshot.rollbacks) == expected
    bare = optax_adaptive.with_rollback(optax.sgd(1.0))
    _, state = run(bare, jnp.zeros(()), [jnp.ones(())] * 600, values)
    assert int(state.snapshot.rollbacks) == 1


@pytest.mark.parametrize("backoff", [1.0, 0.5])
def test_after_a_rollback_the_rate_comes_back_over_ten_updates(backoff):
    tx = optax_adaptive.with_rollback(optax.sgd(1.0), backoff=backoff)
    values = [1.0] * 30 + BURST + [1.0] * 30 + BURST + [1.0] * 15
    seen, _ = run(tx, jnp.zeros(()), [jnp.ones(())] * len(values), values)
    updates = np.diff(seen, prepend=0.0)
    np.testing.assert_allclose(updates[:30], -1.0)
    ramp = np.minimum(np.arange(1, 15) / 10, 1.0)
    np.testing.assert_allclose(updates[42:56], -ramp, atol=4e-6)
    np.testing.assert_allclose(updates[82:], -backoff * ramp[:-1], atol=4e-6)


@pytest.mark.parametrize("loss", [jnp.nan, 1.0])
def test_a_single_nan_skips_one_update(loss):
    tx = optax_adaptive.with_rollback(optax.adam(0.1))
    grad, bad = jnp.ones(3), jnp.full(3, jnp.nan)
    seen, state = run(tx, jnp.zeros(3), [grad, bad, grad], [1.0, loss, 1.0])
    np.testing.assert_array_equal(seen[0], seen[1])
    assert jnp.isfinite(seen[2]).all() and int(state.snapshot.rollbacks) == 0


def test_gradients_that_are_nan_are_a_spike():
    tx = optax_adaptive.with_rollback(optax.adam(0.1))
    grad, bad = jnp.ones(3), jnp.array([1.0, jnp.nan, 1.0])
    _, state = run(tx, jnp.zeros(3), [grad, *[bad] * 10, grad], [1.0] * 12)
    assert int(state.snapshot.rollbacks) == 1
    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(state.inner_state))


@pytest.mark.parametrize("bad", [jnp.nan, -jnp.inf, 1e25])
def test_what_a_sample_of_the_gradient_does_not_show_counts_as_0(bad):
    """Of leaves of more than 4,096 entries the row in the middle is looked at."""
    tx = optax_adaptive.with_rollback(optax.adam(0.1))
    params = jnp.zeros((100, 50))
    seen, state = run(
        tx, params, [jnp.ones_like(params).at[3, 4].set(bad)] * 3, [1] * 3
    )
    assert float(seen[-1][3, 4]) == 0.0 and float(seen[-1][3, 5]) < -0.2
    assert int(state.snapshot.rollbacks) == 0
    inner = jax.tree.leaves(state.inner_state)
    assert all(jnp.isfinite(leaf).all() for leaf in inner)


def test_a_row_that_is_looked_at_skips_the_update():
    tx = optax_adaptive.with_rollback(optax.sgd(0.1))
    params = jnp.zeros((100, 50))
    bad = jnp.ones_like(params).at[50, 4].set(jnp.nan)
    seen, _ = run(tx, params, [jnp.ones_like(params), bad], [1.0, 1.0])
    np.testing.assert_array_equal(seen[1], seen[0])


def test_params_only_initialises_the_inner_state_anew():
    tx = optax_adaptive.with_rollback(optax.adam(0.1), restore_inner=False)
    params = jnp.ones(3)
    values = [1.0, 1.0, *BURST, 1.0, 1.0]
    _, state = run(tx, params, [params] * len(values), values)
    assert int(state.inner_state[0].count) == 1
    assert jax.tree.leaves(state.snapshot.snapshot_inner_state) == []


@pytest.mark.parametrize("restore_inner", [True, False])
def test_memory_is_what_the_docstring_says(restore_inner):
    params = {"w": jnp.zeros((100, 100)), "b": jnp.zeros(100, jnp.bfloat16)}
    tx = optax_adaptive.with_rollback(optax.adam(0.1), restore_inner=restore_inner)

    def size(tree):
        return sum(leaf.nbytes for leaf in jax.tree.leaves(tree))

    inner = size(optax.adam(0.1).init(params))
    copies = inner + size(params) + inner * restore_inner
    assert copies <= size(tx.init(params)) <= copies + 200


def test_returns_exactly_from_afar():
    # From 1e10, snapshot - params rounds to -params: one update leads to 0 alone.
    tx = optax_adaptive.with_rollback(optax.sgd(1.0))
    params = jnp.array([0.5, -3.0])
    values = [1.0, *BURST, jnp.inf, 5.0, 2.0, 1.0, 1.0]
    grads = [jnp.array([-1e10, 1e14]), *[jnp.ones(2)] * (len(values) - 1)]
    seen, state = run(tx, params, grads, values)
    assert not np.array_equal(seen[10], params)
    np.testing.assert_array_equal(seen[11], params)
    # Three updates, of these a tenth, two and three tenths.
    np.testing.assert_allclose(seen[15], params - 0.6, rtol=1e-6)
    assert int(state.snapshot.rollbacks) == 1


def test_an_update_from_which_there_is_no_return_is_skipped():
    tx = optax_adaptive.with_rollback(optax.sgd(1.0))
    grad = jnp.array([-1e31, 1e38, 2e30, 1.0])
    seen, _ = run(tx, jnp.zeros(4), [grad], [1.0])
    np.testing.assert_array_equal(seen[0], [0, 0, 0, -1])


def test_float16_returns_from_updates_that_would_overflow():
    tx = optax_adaptive.with_rollback(optax.sgd(1.0))
    params = jnp.ones(2, jnp.float16)
    grads = [jnp.full(2, -4e4, jnp.float16)] * 2
    values = [1.0, 1.0, *BURST, 1.0, 1.0]
    seen, _ = run(tx, params, [*grads, *[params] * 12], values)
    assert np.isfinite(seen).all()


def test_a_gradient_that_is_not_finite_in_its_imaginary_part_is_skipped():
    tx = optax_adaptive.with_rollback(optax.sgd(1.0))
    params = jnp.ones(2, jnp.complex64)
    seen, _ = run(
        tx, params, [jax.lax.complex(params.real, jnp.nan * params.real)], [1.0]
    )
    np.testing.assert_array_equal(seen[0], params)


def test_donation_and_placeholders():
    tx = optax_adaptive.with_rollback(optax.adam(0.1))
    params = {"w": jnp.ones(8)}
    jax.eval_shape(tx.init, params)
    tx.init(jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), params))
    state = tx.init(params)

    def step(params, state):
        updates, state = tx.update(params, state, params, value=1.0)
        return optax.apply_updates(params, updates), state

    step = jax.jit(step, donate_argnums=(0, 1))
    for _ in range(3):
        given = params, state
        params, state = step(params, state)
        large = [leaf for leaf in jax.tree.leaves(given) if leaf.ndim]
        assert all(leaf.is_deleted() for leaf in large)
    assert step._cache_size() == 1


def test_bad_input():
    with pytest.raises(ValueError, match=r"backoff must be in \(0.0, 1.0\]"):
        optax_adaptive.with_rollback(optax.sgd(0.1), backoff=0.0)
    tx = optax_adaptive.with_rollback(optax.sgd(0.1))
    params = jnp.ones(2)
    with pytest.raises(TypeError, match="`value`"):
        tx.update(params, tx.init(params), params)
    with pytest.raises(ValueError, match="params"):
        tx.update(params, tx.init(params), value=1.0)
    with pytest.raises(ValueError, match="found 0"):
        optax_adaptive.select_on_rollback(optax.adam(0.1).init(params), 0, 0)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
@pytest.mark.parametrize("distance", [1e3, 1e6])
def test_coarser_gradients_return_exactly(dtype, distance):
    tx = optax_adaptive.with_rollback(optax.sgd(1.0))
    params = jnp.array([1.0, 0.3])
    updates, state = tx.update(jnp.zeros(2, dtype), tx.init(params), params, value=1.0)
    far = optax.apply_updates(params, updates) + distance * jnp.array([1.2, 0.7])
    for value in (*BURST, 1.0, 1.0):
        updates, state = tx.update(jnp.ones(2, dtype), state, far, value=value)
        far = optax.apply_updates(far, updates)
    np.testing.assert_array_equal(far, params)


@pytest.mark.parametrize("growth", [1.2, 2.0])
def test_what_diverges_from_the_first_step_on_is_not_copied(growth):
    tx = optax_adaptive.with_rollback(optax.sgd(0.0))

    def step(state, value):
        _, state = tx.update(jnp.zeros(2), state, jnp.zeros(2), value=value)
        return state, state.snapshot.is_taken

    noise = 1 + 0.05 * np.random.default_rng(0).normal(size=60)
    values = np.float32(np.minimum(growth ** np.arange(60.0), 1e30) * noise)
    _, is_taken = jax.lax.scan(step, tx.init(jnp.zeros(2)), values)
    assert np.flatnonzero(is_taken).tolist() == [0]


def test_what_is_not_ours_is_handed_finite_values():
    seen = []

    def update_fn(updates, state, params=None, *, value, **extra_args):
        jax.debug.callback(lambda x: seen.append(float(x)), value)
        return updates, state

    listening = optax.GradientTransformationExtraArgs(
        lambda params: optax.EmptyState(), update_fn
    )
    tx = optax_adaptive.with_rollback(listening)
    params = jnp.ones(3)
    state = tx.init(params)
    for loss in [1.0] * 60 + BURST + [2.0] * 5:
        updates, state = tx.update(0 * params, state, params, value=loss)
    jax.effects_barrier()
    assert len(seen) == 75 and set(seen) <= {1.0, 2.0}


def test_a_state_that_becomes_nan_in_any_leaf_is_renewed():
    """An optimizer that divides by the norm of a gradient, of which one is 0."""

    def unit(updates, params=None):
        return jax.tree.map(lambda u: u / jnp.linalg.norm(u), updates)

    inner = optax.chain(optax.stateless(unit), optax.trace(0.9), optax.scale(-0.01))
    params = {"larger": jnp.ones(10), "smaller": jnp.ones(5)}
    grads = [dict(params) for _ in range(12)]
    grads[3] = params | {"smaller": jnp.zeros(5)}
    values = [1.0 - 0.01 * i for i in range(12)]
    seen, state = run(optax_adaptive.with_rollback(inner), params, grads, values)
    moves = np.diff([float(one["smaller"][0]) for one in seen])
    assert (moves[5:] < 0.0).all()
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state))


def test_a_state_of_several_runs_is_refused():
    tx, params = optax_adaptive.with_rollback(optax.sgd(0.1)), jnp.ones((2, 3))
    stacked = jax.vmap(tx.init)(params)
    with pytest.raises(ValueError, match="several runs at once, use jax.vmap"):
        tx.update(params, stacked, params, value=1.0)


def test_a_back_off_is_undone_once_the_run_has_gone_well_for_as_long_as_before_it():
    tx = optax_adaptive.with_rollback(optax.sgd(1.0), backoff=0.25)
    values = [1.0] * 40 + BURST + [1.0] * 60 + BURST + [1.0] * 400
    seen, _ = run(tx, jnp.zeros(()), [jnp.ones(())] * len(values), values)
    updates = np.diff(seen)
    blown_up = 40 + 10 + 60 + 10
    lowered = updates[blown_up + 15 : 2 * blown_up - 15]
    np.testing.assert_allclose(lowered, -0.25, rtol=1e-4)
    np.testing.assert_allclose(updates[2 * blown_up + 5 :], -1.0, rtol=1e-4)


def test_updates_are_not_lowered_for_ever():
    """Where every few steps a burst comes at the worst moment."""
    tx = optax_adaptive.with_rollback(optax.sgd(1.0), backoff=0.01)
    values = [1.0] * 40 + 8 * (BURST + [1.0] * 15) + [1.0] * 20
    seen, state = run(tx, jnp.zeros(()), [jnp.ones(())] * len(values), values)
    assert optax_adaptive.summary(state)["backoffs"] >= 3
    np.testing.assert_allclose(np.diff(seen)[-1], -1e-3, rtol=1e-2)


def test_what_no_longer_lowers_updates_need_not_be_undone_first():
    tx = optax_adaptive.with_rollback(optax.sgd(1.0), backoff=0.01)
    values = [1.0] * 40 + 8 * (BURST + [1.0] * 15) + [1.0] * 260
    seen, state = run(tx, jnp.zeros(()), [jnp.ones(())] * len(values), values)
    numbers = optax_adaptive.summary(state)
    assert numbers["backoffs"] >= 3 > numbers["backoffs_in_force"]
    np.testing.assert_allclose(np.diff(seen)[-1], -1e-2, rtol=1e-2)


@pytest.mark.parametrize("optimizer", [optax.adamw(1e-3), optax.lion(1e-3)])
def test_decay_of_a_mask_does_not_renew_the_optimizer(optimizer):
    params = {"w": jnp.ones(100), "mask": jnp.array([-jnp.inf, 0.0, 0.0])}
    grads = {"w": jnp.ones(100), "mask": jnp.zeros(3)}
    tx = optax_adaptive.with_rollback(optimizer)
    _, state = run(tx, params, [grads] * 6, [1.0] * 6)
    (count, *_) = (
        leaf
        for path, leaf in jax.tree.leaves_with_path(state.inner_state)
        if "count" in jax.tree_util.keystr(path)
    )
    assert int(count) == 5  # once, as it might have been the optimizer's fault


def test_the_inner_state_returns_with_the_params():
    rng = np.random.default_rng(0)
    good = [1.0 - 0.01 * k + 0.02 * rng.normal() for k in range(60)]
    tx = optax_adaptive.with_rollback(optax.adam(0.1))
    params = jnp.ones(3)
    state, before = tx.init(params), []
    update = jax.jit(tx.update)
    for k, value in enumerate([*good, *BURST, 0.41]):
        before.append((params, state.inner_state[0]))
        grads = jnp.full(3, 1 + 0.01 * k)
        updates, state = update(grads, state, params, value=jnp.float32(value))
        params = optax.apply_updates(params, updates)
    after = state.inner_state[0]
    (copied,) = (s for p, s in before[:60] if (p == params).all())
    assert int(copied.count) > 20
    # The state of then, but for updates of gradients of 0 while params return.
    assert 0 <= int(after.count) - int(copied.count) <= 2
    np.testing.assert_allclose(after.mu, copied.mu, rtol=0.2)
