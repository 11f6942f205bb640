"""States that are as after a million steps and more: averages move, counts saturate."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import optax_adaptive
from optax_adaptive import controllers
from optax_adaptive._controller import nothing
from optax_adaptive.signals import spike_detector
from optax_adaptive.state.packing import pack, unpack
from optax_adaptive.state.tag import unwrap_any
from optax_adaptive.state.trees import saturating_add
from optax_adaptive.transforms import rollback
from optax_adaptive.transforms._rollback_memory import first_memory
from optax_adaptive.transforms._rollback_plan import make_plan
from tests.helpers.observations import observation

MOST = 2**31 - 1


@pytest.mark.parametrize("interpolation", [0.0, 0.7])
@pytest.mark.parametrize("count", [10**6, 10**7, 2**24, 2**30 - 10])
def test_the_average_still_moves(count, interpolation):
    tx = optax_adaptive.with_averaging(
        optax.sgd(0.0), fraction=1e-3, interpolation=interpolation
    )
    params = jnp.ones(3)
    state = tx.init(params)
    (name,) = state.averaging.averaged_steps
    averaging = state.averaging._replace(
        averaged_params=jnp.full(3, 0.99), averaged_steps={name: jnp.int32(count)}
    )
    state = state._replace(averaging=averaging)

    @jax.jit
    def run(carry):
        def step(carry, _):
            params, state = carry
            updates, state = tx.update(jnp.zeros(3), state, params)
            return (optax.apply_updates(params, updates), state), None

        return jax.lax.scan(step, carry, length=100_000)[0]

    params, state = run((params, state))
    # Of what is left at rest, which with interpolation params close in on as well.
    moved = (state.averaging.averaged_params - 0.99) / 0.01
    at_least = 1 - 2.0 ** -(1e5 / (1e-3 * count))
    assert np.all(moved >= 0.3 * min(at_least, 0.9))


@pytest.mark.parametrize("seen", [10**6, 2**24, MOST - 10, MOST])
def test_a_rollback_of_a_run_that_old(seen):
    tx = optax_adaptive.with_rollback(optax.sgd(1e-3))
    params = jnp.ones(3)
    state = tx.init(params)
    memory = unpack(rollback.LAYOUT, unwrap_any(state.rollback_memory))
    detector = memory.detector._replace(
        seen=jnp.int32(seen),
        **{name: jnp.float32(1.0) for name in ("fast", "slow", "level", "ceiling")},
        standard_deviation=jnp.float32(0.1),
    )
    memory = memory._replace(
        detector=detector,
        updates_seen=jnp.int32(seen),
        next_snapshot=jnp.int32(seen - 5),
    )
    snapshot = state.snapshot._replace(snapshot_params=params)
    state = state._replace(
        rollback_memory=rollback.TAG.wrap(pack(memory)), snapshot=snapshot
    )
    update = jax.jit(tx.update)
    values = [1.0] * 20 + [jnp.nan] * 13 + [1.0] * 20
    for value in values:
        updates, state = update(jnp.ones(3), state, params, value=value)
        params = optax.apply_updates(params, updates)
    after = unpack(rollback.LAYOUT, unwrap_any(state.rollback_memory))
    assert int(state.snapshot.rollbacks) == 1 and not after.is_waiting
    assert int(after.updates_seen) == min(seen + len(values), MOST)
    assert int(after.next_snapshot) >= int(after.updates_seen)
    assert int(after.backoffs) == 0
    assert np.isfinite(params).all()


def test_counts_saturate():
    count = jnp.array([0, 5, MOST - 1, MOST], jnp.int32)
    expected = [3, 8, MOST, MOST]
    assert saturating_add(count, 3).tolist() == expected
    assert saturating_add(count, jnp.array(True)).tolist() == [1, 6, MOST, MOST]
    planned = spike_detector.next_snapshot(
        *(jnp.int32(MOST - 3), jnp.int32(MOST - 9), jnp.array(True), jnp.array(False))
    )
    assert int(planned) == MOST


def test_a_level_moves_however_long_the_run():
    detector = spike_detector.first_detector()._replace(
        seen=jnp.int32(10**8),
        **{name: jnp.float32(2.5) for name in ("fast", "slow", "level", "ceiling")},
        standard_deviation=jnp.float32(0.02),
    )

    def step(detector, _):
        return spike_detector.watch(detector, jnp.float32(2.48))[0], None

    moved, _ = jax.lax.scan(step, detector, length=100_000)
    assert float(moved.level) < 2.495


@pytest.mark.parametrize("rule", controllers.REGISTRY)
def test_no_counter_of_a_rule_overflows(rule):
    controller = controllers.REGISTRY[rule]()

    def aged(leaf):
        is_count = jnp.issubdtype(leaf.dtype, jnp.signedinteger) and not leaf.ndim
        return jnp.full_like(leaf, MOST) if is_count else leaf

    seen = observation(32, step=jnp.int32(MOST))
    state = jax.tree.map(aged, controller.init())
    _, state = jax.jit(controller.update)(seen, state)
    for path, leaf in jax.tree_util.tree_leaves_with_path(state):
        if jnp.issubdtype(leaf.dtype, jnp.signedinteger):
            assert np.all(np.asarray(leaf) >= 0), path


def test_no_copy_is_due_while_params_wait_at_the_old_one():
    detector = spike_detector.first_detector()
    for _ in range(200):
        detector, _ = spike_detector.watch(detector, jnp.float32(1.0))
    memory = first_memory()._replace(
        detector=detector,
        updates_seen=jnp.int32(30_000),
        next_snapshot=jnp.int32(30_000),
        waited=jnp.int32(200),
    )

    def is_due(is_waiting):
        waiting = memory._replace(is_waiting=jnp.array(is_waiting))
        plan = make_plan(waiting, jnp.float32(1.0), nothing(), jnp.float32(0.5))
        return bool(plan.is_due)

    assert is_due(False)
    assert not is_due(True)
