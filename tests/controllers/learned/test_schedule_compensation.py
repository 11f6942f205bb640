"""How learned makes up for schedules, by the size of the updates."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optax_adaptive import (
    Controller,
    controllers,
    lr_scale,
    scale_by_controller,
)
from optax_adaptive.controllers.learned import schedule_compensation
from tests.helpers.known_rules import done_after
from tests.helpers.observations import observation
from tests.references.update_sizes_reference import update_sizes_reference


def test_matches_the_reference():
    random = np.random.default_rng(0)
    sizes = np.exp(np.cumsum(random.normal(-0.1, 0.3, 80)))
    sizes[random.random(80) < 0.2] = 0.0
    add, sizes_so_far = (
        jax.jit(schedule_compensation.add),
        schedule_compensation.first_sizes(),
    )
    found = []
    for size in sizes:
        sizes_so_far = add(sizes_so_far, jnp.float32(size))
        found.append(float(schedule_compensation.log_decrease(sizes_so_far)))
    assert min(found) < -1.0
    np.testing.assert_allclose(found, [*update_sizes_reference(sizes)], atol=1e-4)


@pytest.mark.parametrize(
    "times, expected",
    [(0.1, 10.0), (0.6, 1 / 0.6), (1.0, 1.0), (10.0, 1.0), (0.0, 1.0)],
)
def test_makes_up_for_a_schedule(times, expected):
    rule = schedule_compensation.compensated(controllers.constant())
    tx = scale_by_controller(rule, accumulation_size=1)
    state, update = tx.init(None), jax.jit(tx.update)
    for k in range(300):
        arriving = jnp.float32(1.0 if k < 100 else times)
        _, state = update(arriving, state, value=jnp.ones(()))
    assert float(lr_scale(state)) == pytest.approx(expected, rel=1e-3)


def test_the_end_of_a_schedule_is_left_to_it():
    rule = schedule_compensation.compensated(controllers.constant())
    tx = scale_by_controller(rule, accumulation_size=1)
    state, update = tx.init(None), jax.jit(tx.update)
    for k in range(300):
        _, state = update(jnp.float32(0.9**k), state, value=jnp.ones(()))
    assert float(lr_scale(state)) == pytest.approx(20.0)


def test_blow_ups_do_not_count():
    """And the rule sees the scale that it has chosen, without the compensation."""
    chosen = []

    def update_fn(observation, windows):
        chosen.append(float(observation.log_scale))
        return observation.log_scale, windows + 1

    inner = Controller(init=lambda: 0, update=update_fn)
    rule = schedule_compensation.compensated(inner)
    state, log_scale, factors = rule.init(), jnp.zeros(()), []
    for window in range(80):
        size = 100.0 if window == 30 else 1.0 if window < 50 else 0.5
        value = jnp.inf if window == 30 else 1.0
        shown = observation()._replace(
            value=jnp.float32(value),
            log_scale=log_scale,
            update_size=jnp.float32(size),
        )
        log_scale, state = rule.update(shown, state)
        factors.append(float(log_scale))
    np.testing.assert_allclose(factors[:50], 0.0, atol=1e-6)
    assert factors[-1] == pytest.approx(math.log(2.0), abs=0.05)
    np.testing.assert_allclose(chosen, 0.0, atol=1e-5)


def test_a_search_does_not_count():
    """In learned: it is over before the sizes of updates are looked at."""
    rule = controllers.then(
        done_after(10), schedule_compensation.compensated(controllers.constant())
    )
    tx = scale_by_controller(rule, accumulation_size=1)
    state, update = tx.init(None), jax.jit(tx.update)
    for k in range(60):
        arriving = jnp.float32(100.0 if k < 10 else 1.0)
        _, state = update(arriving, state, value=jnp.ones(()))
    assert float(lr_scale(state)) == pytest.approx(2.0**10, rel=1e-4)


def test_the_name_the_needs_and_the_requests_are_those_of_the_rule():
    rule = controllers.maintain()
    outer = schedule_compensation.compensated(rule)
    assert (outer.name, outer.needs) == (rule.name, rule.needs)
    for asked, own in zip(
        outer.request(outer.init()), rule.request(rule.init()), strict=True
    ):
        assert asked == own
