"""Rules whose moves are known."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from optax_adaptive import Controller


def multiply(factor, initial_log_scale=0.0):
    """A rule that multiplies by ``factor`` at every decision."""

    def update_fn(observation, state):
        return observation.log_scale + np.float32(np.log(factor)), state

    return Controller(lambda: (), update_fn, initial_log_scale)


class Counting(NamedTuple):
    left: jax.Array
    is_done: jax.Array


def done_after(decisions):
    """Doubles the rate ``decisions`` times, then is done."""

    def init_fn():
        return Counting(jnp.array(decisions, jnp.int32), jnp.zeros((), jnp.bool_))

    def update_fn(observation, state):
        log_scale = observation.log_scale + np.float32(np.log(2))
        return log_scale, Counting(state.left - 1, state.left <= 1)

    return Controller(init_fn, update_fn)
