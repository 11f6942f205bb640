"""with_rollback: what rules inside remember, ask for and see."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import optax_adaptive
from optax_adaptive import Request
from optax_adaptive._controller import merged, nothing
from tests.helpers.combined import asking
from tests.helpers.loop import run

pytestmark = pytest.mark.usefixtures("standard_promotion")


@pytest.mark.parametrize("restore_inner", [True, False])
def test_a_controller_remembers_and_sees_it(restore_inner):
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
    # Two windows, of which the copy knows none; a spike; and another on probation.
    burst = [jnp.nan] * 10
    values = [1.0] * 4 + burst + [1.0] * 2 + burst + [1.0] * 3
    _, state = run(tx, params, [params] * len(values), values)
    # Of the bursts it sees nothing, though NaN twice is a window; then the blow-up.
    scale = optax_adaptive.lr_scale(state)
    np.testing.assert_allclose(scale, np.exp(2 * 0.5 - 1.0), rtol=1e-5)
    (memory,) = state.inner_state[1].controller_memory.values()
    assert int(memory[-1]) == 102
    assert int(state.inner_state[0][0].count) < 4  # Adam went back


def test_each_probe_is_undone_when_its_rule_says_so():
    def request(windows):
        return Request(
            probe=jnp.clip(3 - windows, 0, 2),  # 2, 2, 1, then none
            restore=(windows == 2) | (windows == 3),
            snapshot=False,
            keep_until=0,
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


def asks(keep_until=0, **events):
    """A rule that holds, and asks for ``events`` by the number of its windows."""

    def request(windows):
        asked = {name: jnp.any(windows == jnp.array(at)) for name, at in events.items()}
        defaults = Request(0, False, False, keep_until, 1.0, False, 0)
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
    kept, _ = taken_and_restored(asks(keep_until=100), 200)
    assert taken[:2] == [0, 20] and len(taken) > 5
    assert kept[:2] == [0, 100]


@pytest.mark.parametrize("restore_inner", [True, False])
def test_within_averaging_copies_are_of_the_average(restore_inner):
    tx = optax_adaptive.with_averaging(
        optax_adaptive.with_rollback(optax.sgd(0.1), restore_inner=restore_inner)
    )

    def step(carry, index):
        params, state = carry
        noise = jax.random.normal(jax.random.key(index), (4,))
        value = jnp.where(index >= 190, jnp.nan, 1.0)
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


def test_a_loss_above_what_the_rule_allows_is_skipped():
    rule = asking(skip_above=np.float32(2.0))
    scaled = optax_adaptive.scale_by_controller(rule, accumulation_size=1)
    tx = optax_adaptive.with_rollback(optax.chain(optax.sgd(1.0), scaled))
    values = [1.0, 1.0, 1.0, 2.5, 1.0]
    seen, _ = run(tx, jnp.zeros(()), [jnp.ones(())] * len(values), values)
    np.testing.assert_allclose(np.diff(seen, prepend=0.0), [-1, -1, -1, 0, -1])


def test_of_two_bounds_on_the_loss_the_lower_counts():
    high, low = (nothing()._replace(skip_above=jnp.float32(x)) for x in (5.0, 2.0))
    assert float(merged(high, low, nothing()).skip_above) == 2.0
