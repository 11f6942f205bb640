"""without_noise: the rate falls to 0 at the end, where losses have no noise."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import optax_adaptive
from optax_adaptive import Controller
from optax_adaptive._controller import nothing, nothing_found
from optax_adaptive.controllers import maintain
from optax_adaptive.controllers._without_noise import without_noise
from tests.helpers.observations import observation

STEPS = 1000
pytestmark = pytest.mark.usefixtures("standard_promotion")


def followed(rule, has_noise, blown_up_at=(), steps=STEPS):
    """Factor by step, and where a copy serves as average, from windows as asked for."""
    found = nothing_found()._replace(
        log_scale=jnp.float32(0.0),
        first_value=jnp.float32(2.0),
        standard_deviation=jnp.float32(0.1),
        has_noise=jnp.array(has_noise),
    )
    state = rule.begin(rule.init(), found)
    update, request = jax.jit(rule.update), jax.jit(rule.request)
    log_scale, end, scales, lags = np.float32(0.0), 0, [], []
    while end < 2 * steps:
        asked = request(state)
        size = int(asked.accumulation_size) or 20
        scales += [float(np.exp(log_scale))] * size
        lags += [bool(asked.average_lags)] * size
        end += size
        is_blown_up = any(end - size < step <= end for step in blown_up_at)
        seen = observation(
            step=end - 1,
            value=np.inf if is_blown_up else 1.0,
            is_rolled_back=is_blown_up,
            log_scale=log_scale,
        )
        log_scale, state = update(seen, state)
    return np.array(scales[: 2 * steps]), np.array(lags[: 2 * steps])


@pytest.mark.parametrize("steps", [200, 480, 600, 665, STEPS, 1990])
def test_the_rate_falls_linearly_over_the_last_three_tenths(steps):
    scales, lags = followed(without_noise(maintain(steps), steps), False, steps=steps)
    length = round(0.3 * steps)
    start = steps - length
    left = (steps - np.arange(start, steps)) / length
    np.testing.assert_allclose(scales[start:steps], left, atol=0.011)
    np.testing.assert_allclose(scales[:start], 1.0)
    assert scales[steps - 1] > 0.0
    assert lags[start + 1 : steps].all() and not lags[:start].any()


def test_past_the_end_the_rate_is_as_it_was():
    scales, lags = followed(without_noise(maintain(STEPS), STEPS), False)
    np.testing.assert_allclose(scales[STEPS + 3 :], 1.0)
    assert not lags[STEPS + 3 :].any()


@pytest.mark.parametrize(("has_noise", "steps"), [(True, STEPS), (False, None)])
def test_it_stays_where_losses_have_noise_or_no_end_is_known(has_noise, steps):
    scales, lags = followed(without_noise(maintain(steps), steps), has_noise)
    np.testing.assert_allclose(scales, 1.0)
    assert not lags.any()


def test_a_blow_up_on_the_way_halves_what_is_left():
    rule = without_noise(maintain(STEPS), STEPS)
    scales, _ = followed(rule, False, blown_up_at=[850])
    np.testing.assert_allclose(scales[855], 0.5 * (STEPS - 855) / 300, atol=0.02)
    assert (np.diff(scales[:STEPS]) <= 0).all()


def test_a_full_batch_is_annealed_where_the_end_is_known():
    inputs = jax.random.normal(jax.random.key(1), (64, 8))
    targets = jnp.sin(inputs @ jax.random.normal(jax.random.key(2), (8, 4)))

    def loss_fn(params):
        return jnp.mean(
            jnp.square(jnp.tanh(inputs @ params["in"]) @ params["out"] - targets)
        )

    keys = jax.random.split(jax.random.key(0))
    first_params = {
        "in": jax.random.normal(keys[0], (8, 16)) / 3,
        "out": jax.random.normal(keys[1], (16, 4)) / 4,
    }

    def trained(total_steps):
        tx = optax_adaptive.autotune(optax.adam(1e-3), total_steps=total_steps)

        def step(carry, _):
            params, state = carry
            loss, grads = jax.value_and_grad(loss_fn)(params)
            updates, state = tx.update(grads, state, params, value=loss)
            return (optax.apply_updates(params, updates), state), None

        (params, state), _ = jax.jit(
            lambda carry: jax.lax.scan(step, carry, length=STEPS)
        )((first_params, tx.init(first_params)))
        return loss_fn(optax_adaptive.eval_params(state, params)), state

    loss, state = trained(STEPS)
    numbers = optax_adaptive.summary(state)
    assert numbers["lr_scale"] < 0.02 * numbers["found_scale"]
    words = optax_adaptive.in_words(numbers)
    assert words["cause_name"] == "lowered towards the end"
    assert loss < 0.1 * loss_fn(first_params)
    numbers = optax_adaptive.summary(trained(None)[1])
    assert optax_adaptive.in_words(numbers)["cause_name"] != words["cause_name"]


def annealed(rule):
    """What is asked for at each decision, and what the rule inside is shown."""
    found = nothing_found()._replace(has_noise=jnp.array(False))
    state, seen = rule.begin(rule.init(), found), []
    log_scale, end = np.float32(0.0), 0
    while end < 2 * STEPS:
        size = int(rule.request(state).accumulation_size) or 20
        end += size
        shown = observation(step=end - 1, value=1.0, log_scale=log_scale)
        log_scale, state = rule.update(shown, state)
        seen.append((end, rule.request(state), np.asarray(state.rule_state)))
    return seen


def always_restoring():
    """A rule that asks for both events, and counts how often it is shown a rollback."""

    def update_fn(observation, rollbacks):
        rollbacks += observation.is_rolled_back.astype(jnp.int32)
        return observation.log_scale, rollbacks

    yes = jnp.ones((), jnp.bool_)
    return Controller(
        lambda: jnp.zeros((), jnp.int32),
        update_fn,
        request=lambda state: nothing()._replace(restore=yes, snapshot=yes),
    )


def test_events_are_asked_for_once_and_windows_past_the_end_are_a_new_series():
    seen = annealed(without_noise(always_restoring(), STEPS))
    for end, asked, rollbacks in seen:
        is_asked = end <= 700 or end > STEPS + 3
        assert bool(asked.restore) == bool(asked.snapshot) == is_asked, end
        # Once, so that losses are not compared with those at the end of the anneal.
        assert rollbacks == (end > STEPS + 3)
