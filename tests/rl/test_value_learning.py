"""Value learning against hand-computed numbers and rlax."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optax_adaptive import rl
from tests.rl.rlax_reference import rlax


def episode(actions=3, steps=6):
    rng = np.random.default_rng(0)
    q = rng.normal(size=(steps + 1, actions)).astype(np.float32)
    return dict(
        q_tm1=jnp.asarray(q[:-1]),
        a_tm1=jnp.asarray(rng.integers(0, actions, steps), jnp.int32),
        r_t=jnp.asarray(rng.normal(size=steps), jnp.float32),
        discount_t=jnp.float32([0.9, 0.9, 0.0, 0.9, 0.9, 0.9]),  # one episode ends
        q_t=jnp.asarray(q[1:]),
    )


def test_lambda_returns_by_hand():
    # Backwards from v = 4: 3 + .5 * 4 = 5; 2 + .5 (.5 * 2 + .5 * 5) = 3.75.
    returns = rl.lambda_returns(
        jnp.float32([2, 3]), jnp.float32([0.5, 0.5]), jnp.float32([2, 4]), 0.5
    )
    np.testing.assert_allclose(returns, [3.75, 5.0])


def test_td_lambda_error_by_hand():
    errors = rl.td_lambda_error(
        jnp.float32([1, 1]),
        jnp.float32([2, 3]),
        jnp.float32([0.5, 0.5]),
        jnp.float32([2, 4]),
        0.5,
    )
    np.testing.assert_allclose(errors, [2.75, 4.0])


@pytest.mark.parametrize("lambda_", [0.0, 0.7, 1.0])
def test_td_lambda_error_is_rlax_s(lambda_):
    e = episode()
    args = (e["q_tm1"][:, 0], e["r_t"], e["discount_t"], e["q_t"][:, 0])
    expected = rlax.td_lambda(*args, jnp.float32(lambda_))
    np.testing.assert_allclose(
        rl.td_lambda_error(*args, lambda_), expected, rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("lambda_", [0.0, 0.7, 1.0, np.float32([1, 0, 1, 1, 0, 1])])
def test_q_lambda_error_is_rlax_s(lambda_):
    e = episode()
    lambda_ = jnp.asarray(lambda_, jnp.float32)
    np.testing.assert_allclose(
        rl.q_lambda_error(**e, lambda_=lambda_),
        rlax.q_lambda(**e, lambda_=lambda_),
        rtol=1e-5,
        atol=1e-6,
    )


def test_q_learning_error_is_rlax_s():
    e = episode()
    for i in range(len(e["r_t"])):
        row = {name: array[i] for name, array in e.items()}
        np.testing.assert_allclose(
            rl.q_learning_error(**row), rlax.q_learning(**row), rtol=1e-6
        )


def test_the_gradient_flows_into_the_estimate_alone():
    e = episode()
    gradient = jax.grad(
        lambda q: jnp.sum(rl.q_lambda_error(**e | {"q_tm1": q}, lambda_=0.5))
    )
    expected = -np.eye(3, dtype=np.float32)[np.asarray(e["a_tm1"])]
    np.testing.assert_allclose(gradient(e["q_tm1"]), expected)
    targets = jax.grad(
        lambda q: jnp.sum(rl.q_lambda_error(**e | {"q_t": q}, lambda_=0.5))
    )
    np.testing.assert_array_equal(targets(e["q_t"]), 0)


def test_traces_add_up_to_the_lambda_return():
    # Backward and forward view agree for a chain of states, each visited once, whose
    # values stay put within the episode.
    steps, decay, discount = 5, 0.6, 0.9
    v = jnp.asarray(np.random.default_rng(1).normal(size=steps + 1), jnp.float32)
    r = jnp.arange(1.0, steps + 1)
    trace, sums = jnp.zeros(steps), jnp.zeros(steps)
    for t in range(steps):
        trace = rl.replacing_trace(trace, jnp.arange(steps) == t, discount * decay)
        sums = sums + trace * (r[t] + discount * v[t + 1] - v[t])
    forward = rl.td_lambda_error(v[:-1], r, jnp.full(steps, discount), v[1:], decay)
    np.testing.assert_allclose(sums, forward, rtol=1e-5)
