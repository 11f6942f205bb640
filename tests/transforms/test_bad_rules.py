"""Rules that break the contract are errors that name them."""

import jax.numpy as jnp
import numpy as np
import pytest

from optax_adaptive import (
    Controller,
    Request,
    controllers,
    scale_by_controller,
)

CONSTANT = controllers.constant()


NO_REQUEST = Request(0, False, False, 0, 1.0, False, 0)


def test_a_rule_whose_state_changes_its_layout():
    def update_fn(observation, state):
        return observation.log_scale, observation.history

    rule = Controller(lambda: jnp.zeros((), jnp.float32), update_fn)
    tx = scale_by_controller(rule, accumulation_size=1)
    with pytest.raises(TypeError, match="structure, shapes and dtypes"):
        tx.update(jnp.ones(()), tx.init(None), value=1.0)


def test_a_rule_whose_state_is_not_32_bit():
    rule = Controller(lambda: jnp.zeros((), jnp.float16), CONSTANT.update)
    with pytest.raises(TypeError, match="32-bit"):
        scale_by_controller(rule).init(None)


def requesting(**fields):
    """A rule that holds, and asks for such fields."""
    asked = NO_REQUEST._replace(**fields)
    return CONSTANT._replace(request=lambda state: asked, name="mine")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (dict(probe=1.0), r"int32 of shape \(\) for probe, but it is float64"),
        (dict(probe=jnp.zeros((2,), jnp.int32)), r"for probe, but .* of shape \(2,\)"),
        (dict(restore=1), r"bool of shape \(\) for restore, but it is int64"),
        (dict(snapshot=jnp.zeros(())), "for snapshot, but it is float32"),
        (dict(half_life=jnp.ones((), jnp.float16)), "for half_life, but it is float16"),
        (dict(half_life=2), "float32 .* for half_life, but it is int64"),
        (dict(average_lags=None), "for average_lags, but it is object"),
        (dict(accumulation_size=jnp.uint32(3)), "accumulation_size, but it is uint32"),
    ],
)
def test_a_request_of_another_kind(fields, message):
    with pytest.raises(TypeError, match=rf"request of the rule 'mine' .*{message}"):
        scale_by_controller(requesting(**fields))


def test_a_request_that_is_none():
    rule = CONSTANT._replace(request=lambda state: (0, False), name="mine")
    with pytest.raises(TypeError, match="the rule 'mine' must be a Request, but it is"):
        scale_by_controller(rule)


@pytest.mark.parametrize("answer", [None, jnp.zeros(1)])
def test_a_rule_that_answers_with_no_number(answer):
    with pytest.raises(
        TypeError, match="'mine' must return the new log factor, of shape"
    ):
        decide(lambda observation, state: (answer, state))


@pytest.mark.parametrize(
    "answer", [1.0, (1.0,), [1.0, ()], (1.0, (), ()), jnp.zeros(2), None]
)
def test_a_rule_that_answers_with_one_thing_in_place_of_two(answer):
    with pytest.raises(TypeError, match="'mine' must return two things"):
        decide(lambda observation, state: answer)


@pytest.mark.parametrize("answer", [np.inf, -np.inf, np.float32(np.nan)])
def test_a_rule_that_answers_with_what_is_not_finite(answer):
    with pytest.raises(ValueError, match="'mine' must return a finite log factor"):
        decide(lambda observation, state: (answer, state))


def decide(update):
    """Asks a rule with such an update once."""
    rule = Controller(lambda: (), update, name="mine")
    tx = scale_by_controller(rule, accumulation_size=1)
    tx.update({}, tx.init({}), value=1.0)
