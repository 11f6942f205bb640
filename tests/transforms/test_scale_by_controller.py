"""scale_by_controller: windows, feedback, bounds, and what a rule may return."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optax_adaptive import (
    Controller,
    Request,
    controllers,
    lr_scale,
    observe,
    scale_by_controller,
    summary,
)
from tests.helpers.follow import follow
from tests.helpers.spy import spy


def always(log_scale, initial_log_scale=0.0):
    """A rule that returns ``log_scale``, whatever it sees."""

    def update_fn(observation, state):
        return jnp.full_like(observation.log_scale, log_scale), state

    return Controller(lambda: (), update_fn, initial_log_scale)


def asking(request):
    """A rule that holds, with such a request after so many windows, and its record."""
    rule, seen = spy()

    def update_fn(observation, windows):
        log_scale, _ = rule.update(observation, ())
        return log_scale, windows + 1

    return (
        Controller(lambda: jnp.zeros((), jnp.int32), update_fn, request=request),
        seen,
    )


NO_REQUEST = Request(0, False, False, 0, 1.0, False, 0)


def test_a_rule_asks_for_the_size_of_its_next_window():
    rule, seen = asking(lambda windows: NO_REQUEST._replace(accumulation_size=windows))
    follow(scale_by_controller(rule, accumulation_size=4))(np.ones(16, np.float32))
    jax.effects_barrier()
    # Before the first it asks for 0: so it is as the user says.
    assert [int(o.step) + 1 for o in seen] == [4, 5, 7, 10, 14]


def test_so_does_a_rule_of_a_size_of_its_own():
    rule, seen = asking(lambda windows: NO_REQUEST._replace(accumulation_size=3))
    follow(scale_by_controller(rule))(np.float32([1, 2, 3] + 3 * [np.nan]))
    jax.effects_barrier()
    assert [float(o.value) for o in seen] == [2.0, np.inf]


@pytest.mark.parametrize("mode", ["min", "max"])
def test_a_validation_metric_reaches_the_next_decision_once(mode):
    rule, seen = spy()
    tx = scale_by_controller(rule, accumulation_size=2, mode=mode)
    run, state = follow(tx), tx.init(None)
    for step in range(3):
        if step == 1:
            state = observe(state, 0.25)
        _, state = run(np.float32([1, 1]), state)
    jax.effects_barrier()
    assert [bool(o.is_validated) for o in seen] == [False, True, False]
    assert seen[1].validation == (0.25 if mode == "min" else -0.25)


def test_a_nan_validation_metric_is_no_validation():
    rule, seen = spy()
    tx = scale_by_controller(rule, accumulation_size=1)
    follow(tx)(np.float32([1]), observe(tx.init(None), np.nan))
    jax.effects_barrier()
    assert not seen[0].is_validated
    assert np.isfinite(seen[0].validation)


def test_with_feedback_observe_only_observations_decide():
    tx = scale_by_controller(controllers.plateau(0.5, patience=2), feedback="observe")
    update = jax.jit(lambda state: tx.update(jnp.ones(()), state))  # no value at all
    state, scales = tx.init(None), []
    for metric in (1.0, None, 2.0, None, 2.0, None, None):
        if metric is not None:
            state = observe(state, metric)
        scale, state = update(state)
        scales.append(float(scale))
    assert scales == pytest.approx([1, 1, 1, 1, 0.5, 0.5, 0.5])


def test_with_feedback_observe_nan_observations_are_a_blow_up():
    rule, seen = spy()
    tx = scale_by_controller(rule, feedback="observe", accumulation_size=2)
    state = tx.init(None)
    for _ in range(2):
        _, state = tx.update(jnp.ones(()), observe(state, np.nan))
    jax.effects_barrier()
    assert [float(o.value) for o in seen] == [np.inf]


@pytest.mark.parametrize("log_scale", [-50.0, 50.0])
def test_the_factor_stays_in_its_bounds(log_scale):
    tx = scale_by_controller(
        always(log_scale), accumulation_size=1, min_scale=0.25, max_scale=4.0
    )
    scale, _ = tx.update(jnp.ones(()), tx.init(None), value=1.0)
    assert scale == (4.0 if log_scale > 0 else 0.25)


@pytest.mark.parametrize("log_scale", [np.nan, np.inf, -np.inf])
def test_a_rule_that_returns_what_is_not_finite_moves_nothing(log_scale):
    tx = scale_by_controller(always(log_scale), accumulation_size=1)
    scale, _ = tx.update(jnp.ones(()), tx.init(None), value=1.0)
    assert scale == 1


def test_the_first_factor_is_the_rules_own():
    tx = scale_by_controller(always(0.0, np.log(1e-3)), accumulation_size=2)
    scales, _ = follow(tx)(np.ones(3, np.float32))
    np.testing.assert_allclose(scales, [1e-3, 1, 1], rtol=1e-5)


def test_the_decision_applies_to_the_same_update():
    tx = scale_by_controller(always(np.log(0.5)), accumulation_size=2)
    scales, _ = follow(tx)(np.ones(4, np.float32))
    np.testing.assert_allclose(scales, [1, 0.5, 0.5, 0.5], rtol=1e-6)


def test_state_fits_in_four_kibibytes():
    larger = {"actor_critic": 6 * 1024}  # it holds a network
    for name, make in controllers.REGISTRY.items():
        state = scale_by_controller(make()).init(None)
        size = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
        assert size <= larger.get(name, 4096)


def test_a_request_asks_for_nothing_by_default():
    rule, seen = asking(lambda windows: Request(half_life=jnp.float32(2.0)))
    follow(scale_by_controller(rule, accumulation_size=1))(jnp.ones(3))
    assert len(seen) == 3


def test_a_whole_number_of_values_may_be_a_float():
    tx = scale_by_controller(always(0.0), accumulation_size=2.0)  # type: ignore
    tx.update(jnp.ones(2), tx.init(jnp.ones(2)), value=1.0)


def test_a_memory_of_a_metric_is_not_taken_for_that_of_a_loss():
    least, most = (
        scale_by_controller(controllers.plateau(), mode=mode) for mode in ("min", "max")
    )
    with pytest.raises(ValueError, match="must be 'plateau-max-32"):
        most.update(jnp.ones(2), least.init(None), value=1.0)


def test_a_rule_that_compares_loss_and_gradients_needs_the_loss():
    with pytest.raises(ValueError, match="'maintain' compares the loss with its grad"):
        scale_by_controller(controllers.maintain(), feedback="observe")


def test_answers_that_are_not_finite_are_counted():
    rule = always(0.0)

    def update_fn(observation, state):
        return jnp.log(0.0 * observation.value), state

    tx = scale_by_controller(rule._replace(update=update_fn), accumulation_size=1)
    _, state = follow(tx)(jnp.ones(5))
    assert summary(state)["nonfinite_answers"] == 5
    assert lr_scale(state) == 1.0
