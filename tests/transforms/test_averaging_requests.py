"""with_averaging: what rules inside are handed, and ask for."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import optax_adaptive
from optax_adaptive import Request
from tests.helpers.spy import spy

pytestmark = pytest.mark.usefixtures("standard_promotion")


@pytest.mark.parametrize("interpolation", [0.0, 0.8])
def test_rules_inside_are_handed_the_averaging_gap(interpolation):
    """(params - average) · gradient of the average with these params in it."""
    rule, seen = spy()
    scale = optax_adaptive.scale_by_controller(rule, accumulation_size=4)
    tx = optax_adaptive.with_averaging(
        optax.chain(optax.sgd(0.1), scale), interpolation=interpolation
    )
    params, rng = jnp.ones(3), np.random.default_rng(0)
    state, update = tx.init(params), jax.jit(tx.update)
    gaps = [[] for _ in range(10)]
    for step in range(40):
        grads = jnp.float32(rng.normal(size=3))
        updates, state = update(grads, state, params, value=jnp.ones(()))
        # Where params are interpolated, at every fourth update.
        if step > 1 and (not interpolation or step % 4 == 0):
            ahead = params - optax_adaptive.eval_params(state, params)
            # In between: 1 / (1 - b) times as much at what the optimizer moves.
            gap = float(ahead @ grads) / (1.0 - interpolation) ** 0.5
            gaps[step // 4].append(gap)
        params = optax.apply_updates(params, updates)
    jax.effects_barrier()
    assert [bool(o.has_averaging_gap) for o in seen] == [bool(gap) for gap in gaps]
    handed = [float(o.averaging_gap) for o in seen]
    want = [np.mean(gap) if gap else 0.0 for gap in gaps]
    np.testing.assert_allclose(handed, want, rtol=1e-3, atol=1e-5)


def request(**fields):
    """That of a rule, always the same."""
    asked = Request(0, False, False, 0, 1.0, False, 0)._replace(**fields)
    return lambda state: asked


def asking(**fields):
    """SGD with a rule that holds, and asks for ``fields``; its observations."""
    rule, seen = spy()
    scaling = optax_adaptive.scale_by_controller(
        rule._replace(request=request(**fields)), accumulation_size=1
    )
    return optax.chain(optax.sgd(0.1), scaling), seen


def run_with_value(tx, params, steps):
    """As ``run``, of a constant loss; states as well."""
    state, seen = tx.init(params), []
    update, rng = jax.jit(tx.update), np.random.default_rng(0)
    for _ in range(steps):
        grads = jnp.asarray(rng.normal(size=params.shape), params.dtype)
        updates, state = update(grads, state, params, value=1.0)
        params = optax.apply_updates(params, updates)
        seen.append((params, state))
    return seen


@pytest.mark.parametrize("interpolation", [0.0, 0.8])
def test_in_a_range_test_params_of_before_are_served(interpolation):
    tx, observations = asking(probe=2)
    tx = optax_adaptive.with_averaging(tx, interpolation=interpolation)
    bare, _ = asking()
    seen = run_with_value(tx, jnp.ones(3), 10)
    expected = run_with_value(optax.chain(bare), jnp.ones(3), 10)
    for (params, state), (want, _) in zip(seen, expected, strict=True):
        np.testing.assert_allclose(params, want, rtol=1e-6)  # nor is any in between
        served = optax_adaptive.eval_params(state, params)
        np.testing.assert_array_equal(served, np.ones(3))
    jax.effects_barrier()
    assert not any(o.displacement for o in observations)
    # It is handed the gap above them, from the second step on.
    assert [bool(o.has_averaging_gap) for o in observations] == [False] + 9 * [True]
    rng = np.random.default_rng(0)
    points = [np.ones(3), *(np.asarray(params) for params, _ in seen[:-1])]
    gaps = [rng.normal(size=3) @ (point - 1.0) for point in points]
    handed = [float(o.averaging_gap) for o in observations]
    want = np.array(gaps) / np.sqrt(1.0 - interpolation)
    np.testing.assert_allclose(handed, want, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("interpolation", [0.0, 0.8])
def test_a_trial_is_plain_and_its_average_is_followed(interpolation):
    tx, observations = asking(probe=3)
    tx = optax_adaptive.with_averaging(tx, interpolation=interpolation)
    plain, others = asking()
    plain = optax_adaptive.with_averaging(plain)
    seen, expected = (run_with_value(t, jnp.ones(3), 20) for t in (tx, plain))
    for (params, state), (want, other) in zip(seen, expected, strict=True):
        np.testing.assert_allclose(params, want, rtol=1e-6)
        served = optax_adaptive.eval_params(state, params)
        np.testing.assert_allclose(
            served, optax_adaptive.eval_params(other, want), rtol=1e-5
        )
    jax.effects_barrier()
    for observation, other in zip(observations, others, strict=True):
        if observation.has_averaging_gap:  # with interpolation at every fourth
            gaps = observation.averaging_gap, other.averaging_gap
            np.testing.assert_allclose(*gaps, rtol=1e-4, atol=1e-6)
    measured = sum(bool(o.has_averaging_gap) for o in observations)
    assert measured == (4 if interpolation else 18)


def test_while_a_rule_calibrates_it_is_handed_how_far_updates_move():
    tx, observations = asking(probe=1)
    seen = run_with_value(optax_adaptive.with_averaging(tx), jnp.ones(3), 10)
    jax.effects_barrier()
    points = [np.ones(3), *(np.asarray(params) for params, _ in seen[:-1])]
    moves = np.linalg.norm(np.diff(points, axis=0), axis=1)
    want = moves / (1.0 + np.linalg.norm(points[1:], axis=1))
    handed = [float(o.displacement) for o in observations]
    np.testing.assert_allclose(handed[1:], want, rtol=1e-5)


def test_a_rule_asks_for_another_half_life():
    tx, _ = asking(half_life=3.0)
    params, state = run_with_value(
        optax_adaptive.with_averaging(tx, fraction=0.1), jnp.ones(3), 40
    )[-1]
    bare, _ = asking()
    longer = optax_adaptive.with_averaging(bare, fraction=0.3)
    same, expected = run_with_value(longer, jnp.ones(3), 40)[-1]
    np.testing.assert_array_equal(params, same)
    np.testing.assert_allclose(
        optax_adaptive.eval_params(state, params),
        optax_adaptive.eval_params(expected, params),
        rtol=1e-5,
    )


def test_where_a_rule_says_that_it_lags_the_average_is_not_read():
    tx, _ = asking(average_lags=True)
    params, state = run_with_value(optax_adaptive.with_averaging(tx), jnp.ones(3), 20)[
        -1
    ]
    read = optax_adaptive.eval_params(state, params)
    np.testing.assert_array_equal(read, params)
    assert not np.allclose(state.averaging.averaged_params, params, rtol=1e-3)


def test_params_in_transit_are_not_served():
    """While the search of autotune moves them far, those of before are."""
    tx = optax_adaptive.autotune(optax.sgd(1e-3), total_steps=400)

    def loss_fn(params):
        return jnp.sum(jnp.square(params - 1.0))

    def step(carry, _):
        params, state = carry
        loss, grads = jax.value_and_grad(loss_fn)(params)
        updates, state = tx.update(grads, state, params, value=loss)
        params = optax.apply_updates(params, updates)
        served = loss_fn(optax_adaptive.eval_params(state, params))
        phase = optax_adaptive.summary(state)["phase"]
        return (params, state), (loss_fn(params), served, phase)

    params = jnp.zeros(3)
    start = params, tx.init(params)
    _, (newest, served, phases) = jax.jit(
        lambda start: jax.lax.scan(step, start, length=400)
    )(start)
    is_searching = phases < 3
    assert float(newest[phases == 1].min()) < 1.0  # the range test moves them far
    np.testing.assert_allclose(served[phases < 2], 3.0, rtol=1e-3)
    assert float(served[is_searching].max()) < 3.003  # in a trial the average is
    assert float(served[-1]) < 1e-3
