"""Runs a transformation over a stream of metrics, compiled once."""

import functools

import jax
import jax.numpy as jnp


def follow(tx):
    """Returns a function of (values, state=None) -> (scales, state), and ``compiled``.

    The updates are one scalar 1, so that each updated value is the factor in force.
    """

    def step(state, value):
        scale, state = tx.update(jnp.ones((), jnp.float32), state, value=value)
        return state, scale

    @jax.jit
    def scan(values, state):
        state, scales = jax.lax.scan(step, state, values)
        return scales, state

    start = functools.cache(lambda: tx.init(None))

    def run(values, state=None):
        return scan(values, start() if state is None else state)

    run.compiled = scan._cache_size
    return run
