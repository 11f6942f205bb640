"""select_on_rollback: what lives outside of params is rolled back with them."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

import optax_adaptive


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
    values = jnp.array([1.0, 1.0, 1.0, *[jnp.nan] * 10, 1.0, 1.0])
    _, stats = jax.lax.scan(step, carry, values)
    assert stats.tolist() == [*range(1, 13), 1.0, 1.0, 2.0]


def test_runs_under_vmap_follow_one_by_one():
    tx = optax_adaptive.with_rollback(optax.sgd(0.1))
    states = jax.vmap(tx.init)(jnp.ones((2, 3)))
    snapshot = states.snapshot._replace(is_restored=jnp.array([False, True]))
    states = states._replace(snapshot=snapshot)
    healthy, current = jnp.zeros((2, 2)), jnp.ones((2, 2))
    _, seen = optax_adaptive.select_on_rollback(states, healthy, current)
    np.testing.assert_array_equal(seen, [[1, 1], [0, 0]])


def test_statistics_of_a_bad_batch_are_not_kept():
    tx = optax_adaptive.with_rollback(optax.sgd(0.1))
    params = jnp.zeros(())
    mask = -jnp.inf  # what is never finite stays as it is
    healthy = {"mean": jnp.full((2,), 5.0), "mask": mask, "count": jnp.int32(0)}
    bad = {"mean": jnp.array([jnp.nan, 7.0]), "mask": mask, "count": jnp.int32(1)}
    _, state = tx.update(params, tx.init(params), params, value=1.0)
    for is_taken in (False, True):
        snapshot = state.snapshot._replace(is_taken=jnp.array(is_taken))
        state = state._replace(snapshot=snapshot)
        kept, seen = optax_adaptive.select_on_rollback(state, healthy, bad)
        assert seen["mean"].tolist() == [5.0, 7.0]
        assert seen["mask"] == mask and seen["count"] == 1
        assert kept["mean"].tolist() == (seen if is_taken else healthy)["mean"].tolist()
