"""How far up a learner may go: some damage is never made good."""

from typing import NamedTuple

import jax.numpy as jnp

from optax_adaptive._controller import Array

_GROWTH = 0.5  # of the reach, a block; halved with every rise of the loss
# From the anchor on half of that: early on a rate too large costs as little as one that
# is right, and what it has done shows later.
_ABOVE = 0.5
_RECOVERY = 1.2  # of the growth after a rise, a block: one false alarm is forgiven
_RETREAT = 0.5  # below an action at which the loss rose


class Reach(NamedTuple):
    """The largest action that is safe, so far as is known."""

    largest: Array  # shape=(), dtype=float32: in [-1, 1]
    growth: Array  # shape=(), dtype=float32: a block
    highest: Array  # shape=(), dtype=float32: may ever grow to; 0 at a found rate


def first_reach() -> Reach:
    """The reach before the first block: the lowest action."""
    lowest, growth, highest = jnp.float32([-1.0, _GROWTH, 1.0])
    return Reach(lowest, growth, highest)


def found_reach() -> Reach:
    """The reach at a rate that was searched for, as by autotune: action 0.

    It is not raised: whoever found it looked above it too.
    """
    largest, growth, highest = jnp.float32([0.0, _GROWTH, 0.0])
    return Reach(largest, growth, highest)


def limited(reach: Reach, action: Array) -> Array:
    """The action that is taken where the learner wants ``action``."""
    return jnp.minimum(action, reach.largest)


def watch(reach: Reach, action: Array, is_rising: Array, is_blown_up: Array) -> Reach:
    """Takes in a block that is over.

    The reach grows from the lowest action to the anchor's, and on at half the pace. It
    falls back below an action at which the loss rose: a rate too large is best met from
    below. Not so where a rate was found: who found it watches it, and a rise is none of
    the learner's doing.

    Args:
      reach: The reach so far.
      action: That of the block, float32 of shape ``()``.
      is_rising: Whether the loss rose in it beyond its noise.
      is_blown_up: Whether it had a window without a finite value.

    Returns:
      The new reach.
    """
    falls_back = is_rising & (reach.highest > 0.0)
    recovered = jnp.minimum(_RECOVERY * reach.growth, _GROWTH)
    growth = jnp.where(falls_back, reach.growth / 2, recovered)
    step = jnp.where(action < 0.0, growth, _ABOVE * growth)
    grown = jnp.maximum(reach.largest, action + step)
    largest = jnp.where(falls_back, action - _RETREAT, grown)
    largest = jnp.where(is_blown_up, -1.0, jnp.clip(largest, -1.0, reach.highest))
    return Reach(largest, growth, reach.highest)
