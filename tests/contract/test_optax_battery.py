"""What optax asks of its contributed optimizers, of autotune and every rule.

The cases are those of ``optax/contrib/_common_test.py``; shardings are in
``test_devices.py``.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from optax_adaptive import autotune, eval_params, with_averaging, with_rollback
from tests.contract.methods import AUTOTUNE, METHODS, of_methods

pytestmark = pytest.mark.usefixtures("standard_promotion")

DTYPES = ("float16", "bfloat16", "float32", "float64")


@functools.cache
def method_of(name):
    return METHODS[name]()


def squares(params, ends):
    return sum(
        jnp.sum(jnp.square(params[name] - jnp.asarray(end)))
        for name, end in ends.items()
    )


PARABOLA = {"x": [1.0, -1.0, 1.0]}
MATRIX = {"x": [[3.0, -2.0], [1.0, 4.0]]}
MIXED = {"x": [1.0, -1.0, 2.0], "y": [[1.0, 0.0], [-1.0, 1.0]]}


def rosenbrock(params):
    x, y = params["x"]
    return jnp.square(1.0 - x) + 100.0 * jnp.square(y - jnp.square(x))


# Where each starts, the loss, and where that is least.
TARGETS = {
    "parabola": (
        [-1.0, 10.0, 1.0],
        functools.partial(squares, ends=PARABOLA),
        PARABOLA,
    ),
    "matrix": (0.0, functools.partial(squares, ends=MATRIX), MATRIX),
    "mixed": (0.0, functools.partial(squares, ends=MIXED), MIXED),
    "rosenbrock": (0.0, rosenbrock, {"x": [1.0, 1.0]}),
}


def last_of(tx, target, steps):
    """Last params, averaged where they are, and the state."""
    first, loss_fn, ends = TARGETS[target]
    params = {
        name: jnp.zeros(np.shape(end)) + jnp.asarray(first)
        for name, end in ends.items()
    }

    def step(carry, _):
        params, state = carry
        loss, grads = jax.value_and_grad(loss_fn)(params)
        updates, state = tx.update(grads, state, params, value=loss)
        return (optax.apply_updates(params, updates), state), None

    state = optax.tree.map_params(tx, lambda leaf: leaf, tx.init(params))
    (params, state), _ = jax.jit(lambda carry: jax.lax.scan(step, carry, length=steps))(
        (params, state)
    )
    return eval_params(state, params), ends


# Those that search, or keep what they are given; at 0.03 for Adam, which is fine here.
@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("autotune, total_steps", "mixed"),
        *[
            pytest.param(method, target, marks=pytest.mark.slow)
            for method in METHODS
            for target in TARGETS
            if (method, target) != ("autotune, total_steps", "mixed")
        ],
    ],
)
def test_it_converges(method, target):
    found, ends = last_of(
        method_of(method), target, 30_000 if target == "rosenbrock" else 5000
    )
    for name, end in ends.items():
        np.testing.assert_allclose(found[name], end, rtol=3e-2, atol=3e-2)


@of_methods(METHODS)
def test_a_second_step_does_not_compile(method):
    """And a keyword that it does not know is passed over."""
    tx, params = method_of(method), jnp.ones(2)

    @jax.jit
    def step(params, state):
        extra = dict(value=jnp.sum(params), unexpected_by_anyone=1)
        updates, state = tx.update(params, state, params, **extra)
        return optax.apply_updates(params, updates), state

    carry = step(params, tx.init(params))
    assert all(leaf is not None for leaf in jax.tree.leaves(carry))
    step(*carry)
    assert step._cache_size() == 1


WRAPPERS = {
    "with_rollback": lambda backoff: with_rollback(optax.adam(0.1), backoff=backoff),
    "with_averaging": lambda fraction: with_averaging(
        optax.adam(0.1), fraction=fraction
    ),
    "with_averaging, interpolated": lambda interpolation: with_averaging(
        optax.sgd(0.1), interpolation=interpolation
    ),
}
INJECTED = WRAPPERS | {
    "autotune": lambda learning_rate: autotune(optax.adam(learning_rate))
}


@pytest.mark.parametrize(
    "name", [pytest.param("autotune", marks=pytest.mark.slow), *WRAPPERS]
)
def test_it_is_the_same_within_inject_hyperparams(name):
    make = INJECTED[name]
    (parameter,) = make.__code__.co_varnames[:1]
    plain = make(**{parameter: 0.5})
    injected = optax.inject_hyperparams(make)(**{parameter: 0.5})
    params = [-jnp.ones((2, 3)), jnp.ones((2, 5, 2))]
    grads = jax.tree.map(jnp.negative, params)
    states = plain.init(params), injected.init(params)
    for _ in range(2):
        updates, state = jax.jit(plain.update)(grads, states[0], params, value=1.0)
        others, other = jax.jit(injected.update)(grads, states[1], params, value=1.0)
        jax.tree.map(
            functools.partial(np.testing.assert_allclose, rtol=1e-5), others, updates
        )
        jax.tree.map(
            functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5),
            other.inner_state,
            state,
        )
        states = state, other


def types(tree):
    return jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype, leaf.weak_type), tree)


@of_methods(METHODS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_types_stay_through_cond(method, dtype):
    """With a value of another dtype, whatever that of params is."""
    with jax.enable_x64(dtype == "float64"):
        tx, params = (
            method_of(method),
            {"w": jnp.ones(2, dtype), "b": jnp.ones((), dtype)},
        )
        state = jax.eval_shape(tx.init, params)

        def maybe(is_on, value, state):
            return jax.lax.cond(
                is_on,
                lambda: tx.update(params, state, params, value=value),
                lambda: (params, state),
            )

        for other in DTYPES[: 4 if dtype == "float64" else 3]:
            value = jnp.ones((), other)
            updates, new = jax.eval_shape(maybe, jnp.array(True), value, state)
            assert types(new) == types(state)
            assert types(updates) == types(jax.eval_shape(lambda: params))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:the optimizer inside autotune has a schedule")
@pytest.mark.parametrize("method", [name for name in AUTOTUNE if "sgd" not in name])
def test_a_constant_schedule_is_a_rate(method):
    kwargs = dict(interpolate=True) if "interpolate" in method else {}
    b1 = 0.0 if kwargs else 0.9
    ends = [
        last_of(autotune(optax.adam(rate, b1=b1), **kwargs), "mixed", 150)[0]
        for rate in (1e-3, optax.constant_schedule(1e-3))
    ]
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-5), *ends)
