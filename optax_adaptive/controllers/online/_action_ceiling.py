"""The action ceiling: whatever a learner proposes, no larger action is taken.

Some damage of a learning rate that is too large is never undone.
"""

from typing import NamedTuple

import jax.numpy as jnp

from optax_adaptive._controller import Array
from optax_adaptive.controllers.online.settings import OnlineSettings


class ActionCeiling(NamedTuple):
    """The largest action allowed, and how it grows."""

    largest: Array  # shape=(), dtype=float32: in [-1, 1]
    growth: Array  # shape=(), dtype=float32: per block
    highest: Array  # shape=(), dtype=float32: limit of its growth, 1; 0 after a search


def first_ceiling(settings: OnlineSettings) -> ActionCeiling:
    """The ceiling before the first block: the lowest action."""
    growth = settings.ceiling_growth
    return ActionCeiling(*jnp.array([-1.0, growth, 1.0], jnp.float32))


def ceiling_after_search(settings: OnlineSettings) -> ActionCeiling:
    """The ceiling at a learning rate that a search has found: action 0, never more.

    The search has tried higher learning rates already.
    """
    growth = settings.ceiling_growth
    return ActionCeiling(*jnp.array([0.0, growth, 0.0], jnp.float32))


def limited(ceiling: ActionCeiling, action: Array, settings: OnlineSettings) -> Array:
    """The action, at most the ceiling."""
    return jnp.minimum(action, ceiling.largest) if settings.has_ceiling else action


def after_block(
    ceiling: ActionCeiling,
    action: Array,
    is_rising: Array,
    is_blown_up: Array,
    settings: OnlineSettings,
) -> ActionCeiling:
    """The ceiling once a block is over.

    It grows from the lowest action to that of the anchor, and above it at half the
    pace. It drops below an action at which the loss rose, since a learning rate that is
    too large is best approached from below. After a search only a blow-up lowers it:
    what found the learning rate watches it, and other rises are not due to the learner.

    Args:
      ceiling: The ceiling so far.
      action: That of the block, float32 of shape ``()``.
      is_rising: Whether the loss rose in it beyond its noise.
      is_blown_up: Whether it had a window without a finite value.
      settings: Constants.

    Returns:
      The new ceiling.
    """
    drops = is_rising & (ceiling.highest > 0.0)
    recovered = jnp.minimum(
        settings.growth_recovery * ceiling.growth, settings.ceiling_growth
    )
    growth = jnp.where(drops, ceiling.growth / 2, recovered)
    step = jnp.where(action < 0.0, growth, settings.growth_above_anchor * growth)
    grown = jnp.maximum(ceiling.largest, action + step)
    largest = jnp.where(drops, action - settings.ceiling_retreat, grown)
    largest = jnp.where(is_blown_up, -1.0, jnp.clip(largest, -1.0, ceiling.highest))
    return ActionCeiling(largest, growth, ceiling.highest)
