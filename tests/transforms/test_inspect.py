"""observe, lr_scale and summary reach into any state."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from optax_adaptive import (
    _controller,
    autotune,
    controllers,
    in_words,
    integrations,
    lr_scale,
    observe,
    scale_by_controller,
    summary,
    with_rollback,
)
from optax_adaptive.signals import window_statistics
from optax_adaptive.state.controller_state import is_controller_state
from optax_adaptive.state.packing import overwrite, pack, unpack
from optax_adaptive.state.tag import VERSION
from optax_adaptive.transforms.in_words import _memory
from tests.helpers.follow import follow
from tests.helpers.spy import spy
from tests.helpers.whole_run import STEPS, unsharded


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
        "nonfinite_answers": 0,
        "phase": 3,
        "cause": 0,
        "found_scale": 0,
        "is_stuck": 0,
    }


@pytest.mark.parametrize("mode", ["min", "max"])
def test_summary_before_the_first_window(mode):
    tx = scale_by_controller(controllers.constant(), mode=mode)
    numbers = summary(tx.init(None))
    assert numbers["best_value"] == 0  # strict JSON has no inf
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
    none = {"rollbacks": 0, "backoffs": 0, "is_waiting": False}
    none["backoffs_in_force"] = 0
    assert summary(tx.init(params)) == none
    both = optax.partition({"w": tx, "b": tx}, {"w": "w", "b": "b"})
    names = [name.rsplit("/", 1)[-1] for name in summary(both.init(params))]
    assert sorted(names) == sorted(2 * list(none))


@functools.cache
def with_nans():
    """A compiled run of losses of which those at given steps are NaN; last state."""
    rule = scale_by_controller(controllers.constant(), accumulation_size=5)
    tx = with_rollback(optax.chain(optax.sgd(0.1), rule))

    @jax.jit
    def run(values, grads):
        def step(carry, now):
            params, state = carry
            value, grad = now
            updates, state = tx.update(grad * params, state, params, value=value)
            return (optax.apply_updates(params, updates), state), None

        params = jnp.ones(3)
        return jax.lax.scan(step, (params, tx.init(params)), (values, grads))[0][1]

    return run


def test_every_value_that_is_not_finite_counts_also_while_updates_wait():
    values, ones = np.ones(120, np.float32), np.ones(120, np.float32)
    values[50:90] = np.nan
    state = with_nans()(values, ones)
    numbers = summary(state)
    assert numbers["nonfinite_values"] == 40
    assert (numbers["rollbacks"], numbers["backoffs"]) == (1, 0)
    grads = np.where(np.isin(np.arange(120), [60, 70]), np.float32(np.nan), ones)
    assert summary(with_nans()(ones, grads))["nonfinite_values"] == 2


def test_a_spike_on_probation_is_a_backoff():
    values, ones = np.ones(120, np.float32), np.ones(120, np.float32)
    values[50:60] = values[70:80] = np.nan
    numbers = summary(with_nans()(values, ones))
    assert (numbers["rollbacks"], numbers["backoffs"]) == (2, 1)
    assert numbers["backoffs_in_force"] == 1


@pytest.mark.parametrize("wrap", [optax.chain, with_rollback])
def test_the_learning_rate_of_what_shows_its_own(wrap):
    """That of ``inject_hyperparams`` alone is without the factor."""
    rule = scale_by_controller(controllers.plateau(0.5, 1), accumulation_size=1)
    tx = wrap(optax.chain(optax.inject_hyperparams(optax.sgd)(0.1), rule))
    params = jnp.ones(3)
    state = tx.init(params)
    for value in (1.0, 2.0, 2.0):
        updates, state = tx.update(params, state, params, value=value)
    numbers = summary(state)
    assert numbers["learning_rate"].dtype == jnp.float32
    np.testing.assert_allclose(numbers["learning_rate"], 0.025, rtol=1e-6)
    np.testing.assert_allclose(updates, -0.025, rtol=1e-6)


def test_the_learning_rate_where_the_rule_is_inside_or_makes_it():
    rule = controllers.plateau(0.5, 1)
    inside = optax.inject_hyperparams(
        lambda learning_rate: optax.chain(
            optax.sgd(learning_rate), scale_by_controller(rule, accumulation_size=1)
        )
    )(learning_rate=0.1)
    schedule = integrations.as_schedule(0.1, rule, accumulation_size=1)
    made = optax.inject_hyperparams(optax.sgd)(learning_rate=schedule)
    params = jnp.ones(3)
    for tx in (inside, made):
        state = tx.init(params)
        for value in (1.0, 2.0, 2.0):
            updates, state = tx.update(params, state, params, value=value)
        rate = summary(state)["learning_rate"]
        np.testing.assert_allclose(-updates, rate, rtol=1e-6)
    plain = optax.chain(optax.sgd(0.1), scale_by_controller(rule))
    assert "learning_rate" not in summary(plain.init(params))


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
    with pytest.raises(ValueError, match=r"one run, but 'phase' has the shape \(3,\)"):
        in_words(summary(states))
    one = jax.tree.map(lambda number: number[1], summary(states))
    assert in_words(one)["phase_name"] == "rule"


def test_observe_accepts_every_dtype():
    state = scale_by_controller(controllers.constant(), feedback="observe").init(None)
    for value in (2, 2.0, np.float64(2), jnp.array(2, jnp.bfloat16), jnp.array(2)):
        jax.tree.map(
            np.testing.assert_array_equal, observe(state, value), observe(state, 2.0)
        )


def words(state):
    return in_words(summary(state))


@pytest.fixture(scope="module")
def whole_run():
    """The last state of a run of autotune, whose rate was not changed in it."""
    with jax.numpy_dtype_promotion("standard"):
        _, state, (_, scales) = unsharded()
    assert len(scales) == STEPS
    return state


def test_a_run_in_words(whole_run):
    begins = autotune(optax.adam(1e-3)).init({"w": jnp.ones(2)})
    assert words(begins) == {
        "phase_name": "calibrate",
        "cause_name": "tried by the search",
    }
    assert words(whole_run)["phase_name"] == "maintain"
    rule = scale_by_controller(controllers.trend()).init(None)
    assert words(rule) == {"phase_name": "rule", "cause_name": "chosen by the rule"}
    both = (rule, scale_by_controller(controllers.search()).init(None))
    assert words(both)["0/phase_name"] == "rule"
    assert words(both)["1/phase_name"] == "calibrate"


@pytest.mark.parametrize(
    ("last_change", "log_share", "probe", "expected"),
    [
        (0, 0.0, 0, "found by the search"),
        (1, 0.0, 0, "lowered by the rate correction"),
        (2, 0.0, 0, "raised by the rate correction"),
        (3, 0.0, 0, "halved after a blow-up"),
        (4, 0.0, 0, "raised back since the blow-up"),
        (5, 0.0, 0, "lowered by a restart"),
        (3, -1.0, 0, "lowered towards the end"),
        (1, 0.0, -1, "rising to the rate found"),
        (0, 0.0, 4, "tried by the search"),
    ],
)
def test_what_made_the_factor(whole_run, last_change, log_share, probe, expected):
    """By the state of a run with one thing in it changed."""

    def changed(node):
        if not is_controller_state(node):
            return node
        ((name, packed),) = node.controller_memory.items()
        memory = unpack(_memory("tuned", 32), packed)
        asked = memory.statistics.request._replace(probe=jnp.int32(probe))
        annealing = memory.controller_state.second_state
        maintained = annealing.rule_state._replace(last_change=jnp.int32(last_change))
        memory = memory._replace(
            statistics=memory.statistics._replace(request=asked),
            controller_state=memory.controller_state._replace(
                second_state=annealing._replace(
                    rule_state=maintained, log_share=jnp.float32(log_share)
                )
            ),
        )
        return node._replace(controller_memory={name: pack(memory)})

    state = jax.tree.map(changed, whole_run, is_leaf=is_controller_state)
    assert words(state)["cause_name"] == expected


def test_words_of_a_state_of_another_layout():
    """What is not known to be of this version is not read."""
    state = scale_by_controller(controllers.tuned()).init(None)
    ((name, packed),) = state.controller_memory.items()
    older = state._replace(controller_memory={name: packed[:-1]})
    assert words(older)["cause_name"] == "tried by the search"


def test_a_state_of_another_version_is_not_read():
    state = scale_by_controller(controllers.tuned()).init(None)
    ((name, packed),) = state.controller_memory.items()
    older = state._replace(controller_memory={"tuned-32-v4": packed})
    message = f"must be '...-v{VERSION}', but it is 'tuned-32-v4'"
    with pytest.raises(ValueError, match=message):
        summary(older)


def test_a_rate_that_was_set_by_hand_is_a_number():
    tx = optax.chain(
        optax.inject_hyperparams(optax.sgd)(learning_rate=0.1),
        scale_by_controller(controllers.constant()),
    )
    state = tx.init(jnp.ones(2))
    state[0].hyperparams["learning_rate"] = 0.25
    assert summary(state)["learning_rate"] == np.float32(0.25)


@pytest.mark.parametrize("second", [controllers.maintain(), controllers.trend()])
def test_a_low_rate_is_stuck_where_maintain_made_it(second):
    rule = controllers.then(controllers.search(), second)
    state = scale_by_controller(rule, min_scale=0.0).init(None)
    ((name, words),) = state.controller_memory.items()
    statistics = unpack(window_statistics.LAYOUT, words)
    statistics = statistics._replace(
        found_scale=jnp.float32(1.0), request=_controller.nothing()
    )
    for scale in (1e-2, 1e-3):
        found = state._replace(
            lr_scale=jnp.float32(scale),
            controller_memory={name: overwrite(words, statistics)},
        )
        is_low = scale == 1e-3 and second.name == "maintain"
        assert bool(summary(found)["is_stuck"]) == is_low


def test_maintain_without_a_search_keeps_the_rate_and_may_be_stuck():
    rule = scale_by_controller(controllers.maintain())
    state = rule.init(None)
    assert words(state) == {
        "phase_name": "maintain",
        "cause_name": "kept since the start",
    }
    assert not summary(state)["is_stuck"]
    assert summary(state._replace(lr_scale=jnp.float32(1e-3)))["is_stuck"]


@pytest.mark.parametrize(
    "rule",
    [
        controllers.then(controllers.search(), controllers.maintain()),
        controllers.then(controllers.range_test(), controllers.maintain()),
        controllers.warmup(controllers.maintain(), 10_000),
    ],
)
def test_a_low_rate_on_the_way_up_is_not_stuck(rule):
    state = scale_by_controller(rule).init(None)
    assert lr_scale(state) < 1e-3 and not summary(state)["is_stuck"]


def test_words_are_of_a_summary_and_not_of_a_state():
    state = autotune(optax.adam(1e-3)).init({"w": jnp.ones(2)})
    with pytest.raises(TypeError, match="what summary.*given a WithAveragingState"):
        in_words(state)


def test_words_need_both_numbers():
    with pytest.raises(ValueError, match="needs 'cause' beside 'phase'"):
        in_words({"phase": 3})
