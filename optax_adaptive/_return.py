"""The way back from a blow-up: it arrives, and rules remember why it was taken."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from optax_adaptive import _meter
from optax_adaptive._controller import Array
from optax_adaptive._pack import overwrite, unpack
from optax_adaptive._scale import ScaleByControllerState

# What is added to params cannot lead back from inf, and from params of 1e10 only to
# within their rounding, so that a second return is needed. From this size, four are.
LARGEST_UPDATE = 1e15
RETURNS = 4


def bounded(updates: optax.Updates) -> optax.Updates:
    """The updates, with 0 for each entry from which there would be no return."""

    def keep(update):
        is_small = jnp.abs(update.astype(jnp.float32)) <= LARGEST_UPDATE
        return jnp.where(is_small, update, jnp.zeros_like(update))

    return jax.tree.map(keep, updates)


def differs(params: optax.Params, copy: optax.Params) -> Array:
    """Whether any entry is another one, bool."""
    is_other = jnp.zeros((), jnp.bool_)
    for a, b in zip(jax.tree.leaves(params), jax.tree.leaves(copy), strict=True):
        is_other |= jnp.any(a != b)
    return is_other


def keep_rules(
    restored: Any, current: Any, is_restored: Array, is_blown_up: Array
) -> Any:
    """The restored inner state, with the current memory of every controller in it.

    So the next attempt is another one. After a blow-up a controller is asked at the
    next update, with a window of value inf.
    """

    def is_rule(node):
        return isinstance(node, ScaleByControllerState)

    def choose(old, new):
        if not is_rule(old):
            return old
        meter = unpack(_meter.LAYOUT, new.controller_memory)
        words = overwrite(new.controller_memory, _meter.blow_up(meter))
        words = jnp.where(is_blown_up, words, new.controller_memory)
        kept = new._replace(controller_memory=words)
        return jax.tree.map(lambda a, b: jnp.where(is_restored, a, b), kept, old)

    return jax.tree.map(choose, restored, current, is_leaf=is_rule)
