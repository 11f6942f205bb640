"""observe, lr_scale and summary reach into any state."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from optax_adaptive import (
    controllers,
    lr_scale,
    observe,
    scale_by_controller,
    summary,
    with_rollback,
)
from tests.helpers.follow import follow
from tests.helpers.spy import spy


def test_summary_counts_what_was_seen():
    tx = scale_by_controller(controllers.constant(), accumulation_size=2, mode="max")
    _, state = follow(tx)(np.float32([1, 3, 5, 7, np.nan, 4, 2, 9]))
    numbers = {name: float(number) for name, number in summary(state).items()}
    assert numbers == {
        "lr_scale": 1,
        "last_value": 3,
        "best_value": 6,
        "windows": 3,
        "nonfinite_values": 1,
        "phase": 3,
        "found_scale": 0,
        "is_stuck": 0,
    }


@pytest.mark.parametrize(("mode", "best"), [("min", np.inf), ("max", -np.inf)])
def test_summary_before_the_first_window(mode, best):
    tx = scale_by_controller(controllers.constant(), mode=mode)
    numbers = summary(tx.init(None))
    assert numbers["best_value"] == best
    assert numbers["windows"] == 0


def test_observe_reaches_every_group():
    rules = {name: spy() for name in ("w", "b")}
    tx = optax.partition(
        {
            name: optax.chain(
                optax.sgd(0.1), scale_by_controller(rule, accumulation_size=1)
            )
            for name, (rule, _) in rules.items()
        },
        {"w": "w", "b": "b"},
    )
    params = {"w": jnp.ones(2), "b": jnp.ones(1)}
    state = observe(tx.init(params), 0.75)
    tx.update(params, state, params, value=1.0)
    jax.effects_barrier()
    for _, seen in rules.values():
        assert seen[0].is_validated
        assert seen[0].validation == 0.75


def test_summary_of_groups_says_where_each_lies():
    tx = optax.chain(
        scale_by_controller(controllers.constant()),
        scale_by_controller(controllers.range_test(start=1e-2)),
    )
    numbers = summary(tx.init(None))
    assert numbers["0/lr_scale"] == 1
    assert numbers["1/lr_scale"] == pytest.approx(1e-2)


def test_summary_of_rollbacks_alone_and_of_several():
    params = {"w": jnp.ones(2), "b": jnp.ones(1)}
    tx = with_rollback(optax.sgd(0.1))
    assert summary(tx.init(params)) == {"rollbacks": 0, "is_waiting": False}
    both = optax.partition({"w": tx, "b": tx}, {"w": "w", "b": "b"})
    names = [name.rsplit("/")[-1] for name in summary(both.init(params))]
    assert sorted(names) == ["is_waiting", "is_waiting", "rollbacks", "rollbacks"]


def test_the_newest_observation_wins():
    rule, seen = spy()
    tx = scale_by_controller(rule, accumulation_size=1)
    state = observe(observe(tx.init(None), 1.0), 2.0)
    tx.update(jnp.ones(()), state, value=1.0)
    jax.effects_barrier()
    assert seen[0].validation == 2


def test_observe_and_summary_on_states_with_vmap_axes():
    tx = scale_by_controller(controllers.plateau(0.5, 1), feedback="observe")
    states = jax.vmap(lambda _: tx.init(None))(jnp.arange(3))
    update = jax.jit(jax.vmap(lambda state: tx.update(jnp.ones(()), state)[1]))
    for metrics in ([1.0, 2.0, 3.0], [2.0, 1.0, 3.0]):
        states = update(observe(states, np.float32(metrics)))
    np.testing.assert_allclose(lr_scale(states), [0.5, 1, 0.5])
    np.testing.assert_array_equal(summary(states)["last_value"], [2, 1, 3])


def test_observe_accepts_every_dtype():
    state = scale_by_controller(controllers.constant(), feedback="observe").init(None)
    for value in (2, 2.0, np.float64(2), jnp.array(2, jnp.bfloat16), jnp.array(2)):
        jax.tree.map(
            np.testing.assert_array_equal, observe(state, value), observe(state, 2.0)
        )
