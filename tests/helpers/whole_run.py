"""autotune through its search and after, of one machine or many: what must be equal."""

import functools

import jax
import numpy as np
import optax

import optax_adaptive
from tests.helpers.regression import make_step, squared_error, student, teacher

STEPS = 280  # the search takes 65


@functools.cache
def tuning(interpolate=False, axis_name=None):
    optimizer = optax.adam(1e-3, b1=0.0) if interpolate else optax.adam(1e-3)
    return optax_adaptive.autotune(
        optimizer, total_steps=STEPS, interpolate=interpolate, axis_name=axis_name
    )


def first_params():
    return student(jax.random.key(0))


@functools.cache
def batches():
    """Inputs (STEPS, 32, 8) and targets (STEPS, 32)."""
    return jax.vmap(teacher)(jax.random.split(jax.random.key(1), STEPS))


def scanned(step):
    """A function of (params, state, batches), which gives losses and rates as well."""

    def run(params, state, batches):
        def body(carry, batch):
            params, state, loss = step(*carry, batch)
            return (params, state), (loss, optax_adaptive.lr_scale(state))

        (params, state), seen = jax.lax.scan(body, (params, state), batches)
        return params, state, seen

    return run


def whole_step(tx):
    """One of the whole batch, or of one that ``jax.jit`` splits by itself."""
    step = make_step(tx)
    return lambda params, state, batch: (
        *step(params, state, batch),
        squared_error(params, batch),
    )


@functools.cache
def unsharded(interpolate=False):
    """Params, state, and (losses, rates) of one device."""
    tx, params = tuning(interpolate), first_params()
    return jax.jit(scanned(whole_step(tx)))(params, tx.init(params), batches())


def assert_same_run(run, interpolate=False):
    """Compares params, state, and (losses, rates) with those of one device."""
    expected = unsharded(interpolate)
    assert optax_adaptive.summary(expected[1])["phase"] == 3
    # A sum over devices rounds otherwise than one over rows. What that comes to here is
    # 2e-6 of a loss, and through the search 1e-6 of the rate.
    for here, there in zip(run[2], expected[2], strict=True):
        np.testing.assert_allclose(here, there, rtol=1e-4)
    averages = [
        optax_adaptive.eval_params(state, params)
        for params, state, _ in (run, expected)
    ]
    for pair in ((run[0], expected[0]), averages):
        jax.tree.map(
            functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5), *pair
        )
