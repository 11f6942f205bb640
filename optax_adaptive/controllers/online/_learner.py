"""What a learner is: it proposes actions, and learns from the rewards of blocks."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp

from optax_adaptive._controller import Array

# For learners that choose among a few actions: sixths of the bound, the smallest of
# which lies within the dead band.
ACTIONS = tuple(sixths / 6 for sixths in range(-6, 7))


class Transition(NamedTuple):
    """A block that is over, as a learner sees it."""

    features_tm1: Array  # shape=(SIZE,), dtype=float32: when it started
    a_tm1: Array  # shape=(), dtype=float32: the action taken, not the one proposed
    r_t: Array  # shape=(), dtype=float32: block reward
    features_t: Array  # shape=(SIZE,), dtype=float32: when it ended
    # shape=(13,), dtype=float32: the action taken, had each of ACTIONS been proposed
    choices_tm1: Array


class Learner(NamedTuple):
    """Proposes actions in [-1, 1], and learns from the rewards of those taken."""

    init: Callable[[], Any]  # -> state
    # state, features, random key, exploration in (0, 1] -> action, state
    act: Callable[[Any, Array, Array, Array], tuple[Array, Any]]
    learn: Callable[[Any, Transition], Any]  # state, transition -> state


def nearest_action(action: Array) -> Array:
    """The index in ``ACTIONS`` of the one nearest to an action, int32.

    Halfway between two it is the lower one, since the action ceiling may lie there.
    """
    distances = jnp.abs(jnp.array(ACTIONS, jnp.float32) - (action - 1e-3))
    return jnp.argmin(distances).astype(jnp.int32)
