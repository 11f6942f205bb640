"""with_rollback: blow-ups are undone, spikes and noise are not blow-ups."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import optax_adaptive
from optax_adaptive import Request
from optax_adaptive.signals import spike_detector
from optax_adaptive.transforms import rollback

pytestmark = pytest.mark.usefixtures("optimized")


@pytest.fixture(autouse=True)
def standard_promotion():
    """Adam mixes integers and floats; so does any real training."""
    with jax.numpy_dtype_promotion("standard"):
        yield


def watch_all(values):
    """The verdicts on a stream of losses."""

    def step(alarm, value):
        return spike_detector.watch(alarm, value)

    values = jnp.asarray(values, jnp.float32)
    _, verdicts = jax.lax.scan(step, spike_detector.first_alarm(), values)
    return verdicts


def noise(steps, seed=0):
    return np.random.default_rng(seed).normal(size=steps)


@pytest.mark.parametrize("offset", [5.0, 0.0, -300.0])
@pytest.mark.parametrize("seed", range(5))
def test_no_alarm_on_noise_and_descent(offset, seed):
    descent = 3.0 * np.exp(-np.arange(2000) / 300)
    values = offset + descent + 0.3 * noise(2000, seed)
    assert not watch_all(values).is_raised.any()


def test_no_alarm_on_spikes_of_a_hundred_times_the_loss():
    values = 1.0 + 0.1 * noise(2000)
    values[np.random.default_rng(1).random(2000) < 0.01] *= 100
    assert not watch_all(values).is_raised.any()


@pytest.mark.parametrize("offset", [5.0, 0.0, -300.0])
def test_alarm_soon_after_a_jump(offset):
    values = offset + 0.1 * noise(400)
    values[300:] += 2.0
    raised = np.flatnonzero(watch_all(values).is_raised)
    assert 300 < raised[0] < 315


def test_alarm_on_a_slow_rise():
    values = 1.0 + 0.3 * noise(3000)
    values[1000:] += np.linspace(0, 0.5, 2000)
    raised = np.flatnonzero(watch_all(values).is_raised)
    assert 1000 < raised[0] < 2900


@pytest.mark.parametrize("spike", [1e3, 1e25, 1e36])
def test_a_spike_among_the_first_values_hides_no_later_rise(spike):
    values = 1.0 + 0.1 * noise(600)
    values[4] = spike
    values[500:] += 50.0
    raised = np.flatnonzero(watch_all(values).is_raised)
    assert raised.size and 500 <= raised[0] < 530


@pytest.mark.parametrize("unit", [1e-30, 1.0, 1e30])
def test_alarms_have_no_unit(unit):
    values = 1.0 + 0.1 * noise(400)
    values[300:] += 2.0
    raised = np.flatnonzero(watch_all(unit * values).is_raised)
    assert 300 <= raised[0] < 320


def test_two_nonfinite_values_raise_one_does_not():
    values = np.ones(100)
    values[50] = np.nan
    values[80:82] = np.inf
    verdicts = watch_all(values)
    assert np.flatnonzero(verdicts.is_raised).tolist() == [81]
    assert np.flatnonzero(~verdicts.is_finite).tolist() == [50, 80, 81]


def run(tx, params, grads, values):
    """Plain loop over given gradients and losses; all params on the way."""
    state, seen = tx.init(params), []
    update = jax.jit(tx.update)
    for grad, value in zip(grads, values, strict=True):
        updates, state = update(grad, state, params, value=value)
        params = optax.apply_updates(params, updates)
        seen.append(params)
    return seen, state


def test_returns_to_the_snapshot_exactly_and_backs_off():
    tx = optax_adaptive.with_rollback(optax.adam(0.1), backoff=0.25)
    params = {"w": jnp.arange(4.0), "b": jnp.array(0.5, jnp.bfloat16)}
    grads = jax.tree.map(jnp.ones_like, params)
    values = [1.0, 1.0, 1.0, jnp.nan, jnp.nan, 1.0, 1.0]
    seen, state = run(tx, params, [grads] * 7, values)
    for returned in seen[4:6]:  # a return takes two updates
        jax.tree.map(np.testing.assert_array_equal, returned, params)
    assert int(state.snapshot.rollbacks) == 1
    fresh = optax.adam(0.1)
    updates, _ = fresh.update(grads, fresh.init(params), params)
    moved = params["w"] + 0.25 / rollback.RAMP * updates["w"]
    np.testing.assert_allclose(seen[6]["w"], moved, rtol=1e-6)


@pytest.mark.parametrize("backoff", [1.0, 0.5])
def test_after_a_rollback_the_rate_comes_back_over_ten_updates(backoff):
    tx = optax_adaptive.with_rollback(optax.sgd(1.0), backoff=backoff)
    values = [1.0] * 30 + [jnp.inf] * 2 + [1.0] * 15
    seen, _ = run(tx, jnp.zeros(()), [jnp.ones(())] * len(values), values)
    updates = np.diff(seen, prepend=0.0)
    np.testing.assert_allclose(updates[:30], -1.0)
    ramp = np.minimum(np.arange(1, 15) / rollback.RAMP, 1.0)
    np.testing.assert_allclose(updates[33:], -backoff * ramp, atol=4e-6)


@pytest.mark.parametrize("loss", [jnp.nan, 1.0])
def test_a_single_nan_skips_one_update(loss):
    tx = optax_adaptive.with_rollback(optax.adam(0.1))
    grad, bad = jnp.ones(3), jnp.full(3, jnp.nan)
    seen, state = run(tx, jnp.zeros(3), [grad, bad, grad], [1.0, loss, 1.0])
    np.testing.assert_array_equal(seen[0], seen[1])
    assert jnp.isfinite(seen[2]).all() and int(state.snapshot.rollbacks) == 0


def test_two_nan_gradients_are_a_blow_up():
    tx = optax_adaptive.with_rollback(optax.adam(0.1))
    grad, bad = jnp.ones(3), jnp.array([1.0, jnp.nan, 1.0])
    _, state = run(tx, jnp.zeros(3), [grad, bad, bad, grad], [1.0] * 4)
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
    values = [1.0, 1.0, jnp.inf, jnp.inf, 1.0, 1.0]
    _, state = run(tx, params, [params] * 6, values)
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
    assert copies <= size(tx.init(params)) <= copies + 100


def test_returns_exactly_from_afar():
    # From 1e10, snapshot - params rounds to -params: one update leads to 0 alone.
    tx = optax_adaptive.with_rollback(optax.sgd(1.0))
    params = jnp.array([0.5, -3.0])
    grads = [jnp.array([-1e10, 1e14]), *[jnp.ones(2)] * 6]
    values = [1.0, jnp.inf, jnp.inf, jnp.inf, 5.0, 2.0, 1.0]
    seen, state = run(tx, params, grads, values)
    assert not np.array_equal(seen[2], params)
    np.testing.assert_array_equal(seen[3], params)
    # Three updates at half the rate, and of these a tenth, two and three tenths.
    np.testing.assert_allclose(seen[6], params - 0.3, rtol=1e-6)
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
    seen, _ = run(tx, params, [*grads, params, params], [1.0, jnp.inf, jnp.inf, 1.0])
    assert np.isfinite(seen).all()


def test_a_gradient_that_is_not_finite_in_its_imaginary_part_is_skipped():
    tx = optax_adaptive.with_rollback(optax.sgd(1.0))
    params = jnp.ones(2, jnp.complex64)
    seen, _ = run(
        tx, params, [jax.lax.complex(params.real, jnp.nan * params.real)], [1.0]
    )
    np.testing.assert_array_equal(seen[0], params)


@pytest.mark.parametrize("restore_inner", [True, False])
def test_a_controller_remembers_and_is_told(restore_inner):
    def update_fn(observation, seen):
        is_blown_up = jnp.isinf(observation.value)
        log_scale = observation.log_scale + jnp.where(is_blown_up, -1.0, 0.5)
        return log_scale, seen + jnp.where(is_blown_up, 100, 1)

    # An array, since those lie behind scalars in the memory, and so it comes last.
    rule = optax_adaptive.Controller(lambda: jnp.zeros((1,), jnp.int32), update_fn)
    scaling = optax_adaptive.scale_by_controller(rule, accumulation_size=2)
    tx = optax_adaptive.with_rollback(
        optax.chain(optax.adam(0.1), scaling), restore_inner=restore_inner
    )
    params = jnp.ones(2)
    # Two windows, of which the copy knows none; a blow-up; the rest of a window.
    values = [1.0, 1.0, 1.0, 1.0, jnp.nan, jnp.nan, 1.0, 1.0]
    _, state = run(tx, params, [params] * len(values), values)
    # NaN twice is a window of its own, and then the rule is told of the return.
    scale = optax_adaptive.lr_scale(state)
    np.testing.assert_allclose(scale, np.exp(2 * 0.5 - 2 * 1.0), rtol=1e-5)
    (memory,) = state.inner_state[1].controller_memory.values()
    assert int(memory[-1]) == 202
    assert int(state.inner_state[0][0].count) < 4  # Adam went back


def test_each_probe_is_undone_when_its_rule_says_so():
    def request(windows):
        return Request(
            probe=jnp.clip(3 - windows, 0, 2),  # 2, 2, 1, then none
            restore=(windows == 2) | (windows == 3),
            snapshot=False,
            keep_snapshot=False,
            half_life=1.0,
            average_lags=False,
            accumulation_size=0,
        )

    rule = optax_adaptive.Controller(
        lambda: jnp.zeros((), jnp.int32),
        lambda observation, windows: (observation.log_scale + 1.0, windows + 1),
        request=request,
    )
    scaling = optax_adaptive.scale_by_controller(rule, accumulation_size=20)
    tx = optax_adaptive.with_rollback(optax.chain(optax.adam(0.1), scaling))
    params = jnp.ones(2)
    values = np.linspace(1.0, 0.5, 64)
    values[40:] = 9.0  # in a probe no rise is a blow-up
    seen, state = run(tx, params, [params] * 64, values)
    for last in (39, 60):  # the value at 40 is that of a return, and in no window
        np.testing.assert_array_equal(seen[last], params)
        np.testing.assert_array_equal(seen[last + 1], params)
        assert not np.array_equal(seen[last - 1], params)
        assert not np.array_equal(seen[last + 2], params)
    assert not np.array_equal(seen[19], params)
    assert int(state.snapshot.rollbacks) == 0
    assert int(state.inner_state[0][0].count) == 2  # the copy is the first state
    np.testing.assert_allclose(optax_adaptive.lr_scale(state), np.exp(3.0), rtol=1e-5)


def asks(**events):
    """A rule that holds, and asks for ``events`` by the number of its windows."""

    def request(windows):
        asked = {name: jnp.any(windows == jnp.array(at)) for name, at in events.items()}
        defaults = Request(0, False, False, False, 1.0, False, 0)
        return defaults._replace(**asked)

    return optax_adaptive.Controller(
        lambda: jnp.zeros((), jnp.int32),
        lambda observation, windows: (observation.log_scale, windows + 1),
        request=request,
        accumulation_size=1,
    )


def taken_and_restored(rule, steps):
    """At which updates the copy was taken, and gone back to."""
    scaling = optax_adaptive.scale_by_controller(rule)
    tx = optax_adaptive.with_rollback(optax.chain(optax.sgd(0.1), scaling))

    def step(carry, _):
        params, state = carry
        updates, state = tx.update(params, state, params, value=1.0)
        carry = optax.apply_updates(params, updates), state
        return carry, (state.snapshot.is_taken, state.snapshot.is_restored)

    params = jnp.ones(2)
    start = params, tx.init(params)
    (_, state), flags = jax.lax.scan(step, start, length=steps)
    assert int(state.snapshot.rollbacks) == 0
    return [np.flatnonzero(flag).tolist() for flag in flags]


def test_a_rule_asks_for_a_copy_and_for_a_return():
    # The fifth window is that of the update 4: the copy is taken before the next.
    taken, restored = taken_and_restored(asks(snapshot=[5], restore=[9]), 20)
    assert taken == [0, 5]
    assert restored == [8, 9]


def test_a_rule_asks_for_no_other_copies():
    taken, _ = taken_and_restored(asks(), 200)
    kept, _ = taken_and_restored(asks(keep_snapshot=np.arange(201)), 200)
    assert taken[:2] == [0, 20] and len(taken) > 5
    assert kept == [0]


@pytest.mark.parametrize("restore_inner", [True, False])
def test_within_averaging_copies_are_of_the_average(restore_inner):
    tx = optax_adaptive.with_averaging(
        optax_adaptive.with_rollback(optax.sgd(0.1), restore_inner=restore_inner)
    )

    def step(carry, index):
        params, state = carry
        noise = jax.random.normal(jax.random.key(index), (4,))
        value = jnp.where(index >= 198, jnp.nan, 1.0)
        updates, state = tx.update(params + noise, state, params, value=value)
        carry = optax.apply_updates(params, updates), state
        average = state.averaging.averaged_params
        return carry, (params, average, state.inner_state.snapshot)

    params = jnp.ones(4)
    start = params, tx.init(params)
    (params, state), (seen, averages, copies) = jax.lax.scan(
        step, start, jnp.arange(200)
    )
    first, *later = np.flatnonzero(copies.is_taken)
    np.testing.assert_array_equal(copies.snapshot_params[first], seen[first])
    assert len(later) > 5
    for at in later:
        np.testing.assert_array_equal(copies.snapshot_params[at], averages[at])
        assert not np.allclose(averages[at], seen[at], rtol=1e-2)
    assert copies.is_restored[-1] and copies.rollbacks[-1] == 1
    np.testing.assert_allclose(params, copies.snapshot_params[-1], rtol=1e-6)


def test_what_lives_outside_params_follows():
    tx = optax_adaptive.with_rollback(optax.sgd(0.1))

    @jax.jit
    def step(carry, value):
        params, state, healthy, stats = carry
        stats = stats + 1.0
        updates, state = tx.update(jnp.ones(()), state, params, value=value)
        healthy, stats = optax_adaptive.select_on_rollback(state, healthy, stats)
        return (optax.apply_updates(params, updates), state, healthy, stats), stats

    params = jnp.zeros(())
    carry = (params, tx.init(params), jnp.zeros(()), jnp.zeros(()))
    values = jnp.array([1.0, 1.0, 1.0, jnp.nan, jnp.nan, 1.0, 1.0])
    _, stats = jax.lax.scan(step, carry, values)
    assert stats.tolist() == [1.0, 2.0, 3.0, 4.0, 1.0, 1.0, 2.0]


def test_runs_under_vmap_follow_one_by_one():
    tx = optax_adaptive.with_rollback(optax.sgd(0.1))
    states = jax.vmap(tx.init)(jnp.ones((2, 3)))
    snapshot = states.snapshot._replace(is_restored=jnp.array([False, True]))
    states = states._replace(snapshot=snapshot)
    healthy, current = jnp.zeros((2, 2)), jnp.ones((2, 2))
    _, seen = optax_adaptive.select_on_rollback(states, healthy, current)
    np.testing.assert_array_equal(seen, [[1, 1], [0, 0]])


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
        params, state = step(params, state)
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


@pytest.mark.parametrize(
    "wrap",
    [
        optax_adaptive.with_rollback,
        optax_adaptive.with_averaging,
        optax_adaptive.autotune,
        partial(optax_adaptive.autotune, interpolate=True),
        partial(optax_adaptive.with_rollback, restore_inner=False),
    ],
)
@pytest.mark.parametrize("optimizer", [optax.adam(0.1), optax.sgd(0.1, 0.9)])
def test_a_step_copies_nothing_large_but_in_its_loop(optimized, wrap, optimizer):
    if jax.default_backend() != "cpu":
        pytest.skip("the names of other backends' copies differ")
    tx = wrap(optimizer)
    params = [jax.ShapeDtypeStruct((300, 500), jnp.float32)] * 2

    def step(params, state, grads, value):
        updates, state = tx.update(grads, state, params, value=value)
        return optax.apply_updates(params, updates), state

    state = jax.eval_shape(tx.init, params)
    value = jax.ShapeDtypeStruct((), jnp.float32)
    jitted = jax.jit(step, donate_argnums=(0, 1), compiler_options=optimized)
    compiled = jitted.lower(params, state, params, value).compile()
    entry = compiled.as_text().partition("\nENTRY ")[2]
    assert "parameter(0)" in entry
    copies = [line for line in entry.splitlines() if " copy(" in line]
    assert not [line for line in copies if "f32[300,500]" in line]
    # What a conditional lets pass, its branches may write out.
    conditionals = [line for line in entry.splitlines() if " conditional(" in line]
    assert not [line for line in conditionals if "f32[300,500]" in line]


def fusions(count, options):
    """Of the program of one update of autotune, of so many leaves."""
    tx = optax_adaptive.autotune(optax.adam(0.1))
    params = [jnp.zeros((8, 8 + i % 3)) for i in range(count)]

    def step(params, state, grads, value):
        updates, state = tx.update(grads, state, params, value=value)
        return optax.apply_updates(params, updates), state

    jitted = jax.jit(step, donate_argnums=(0, 1), compiler_options=options)
    state = jax.eval_shape(tx.init, params)
    compiled = jitted.lower(params, state, params, jnp.zeros(())).compile()
    return compiled.as_text().count(" fusion(")


def test_the_program_grows_with_the_leaves_no_faster_than_they_do(optimized):
    assert 50 < fusions(200, optimized) <= 5 * fusions(50, optimized)
