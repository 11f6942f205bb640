"""Value learning against hand-computed numbers and rlax."""

import jax
import jax.numpy as jnp
import numpy as np

from optax_adaptive import rl
from tests.references.rlax_reference import rlax


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


def test_q_learning_error_is_rlax_s():
    e = episode()
    for i in range(len(e["r_t"])):
        row = {name: array[i] for name, array in e.items()}
        np.testing.assert_allclose(
            rl.q_learning_error(**row), rlax.q_learning(**row), rtol=1e-6
        )


def test_the_gradient_flows_into_the_estimate_alone():
    e = {name: array[0] for name, array in episode().items()}
    gradient = jax.grad(lambda q: rl.q_learning_error(**e | {"q_tm1": q}))
    expected = -np.eye(3, dtype=np.float32)[int(e["a_tm1"])]
    np.testing.assert_allclose(gradient(e["q_tm1"]), expected)
    targets = jax.grad(lambda q: rl.q_learning_error(**e | {"q_t": q}))
    np.testing.assert_array_equal(targets(e["q_t"]), 0)


def test_traces_add_up_to_the_lambda_return():
    # Backward and forward view agree for a chain of states, each visited once, whose
    # values stay put within the episode.
    steps, decay, discount = 5, 0.6, 0.9
    v = np.random.default_rng(1).normal(size=steps + 1).astype(np.float32)
    r = np.arange(1.0, steps + 1, dtype=np.float32)
    trace, sums = jnp.zeros(steps), jnp.zeros(steps)
    for t in range(steps):
        trace = rl.replacing_trace(trace, jnp.arange(steps) == t, discount * decay)
        sums = sums + trace * (r[t] + discount * v[t + 1] - v[t])
    returns, following = np.zeros(steps), v[-1]
    for t in reversed(range(steps)):
        mixed = (1 - decay) * v[t + 1] + decay * following
        following = returns[t] = r[t] + discount * mixed
    np.testing.assert_allclose(sums, returns - v[:-1], rtol=1e-5)
