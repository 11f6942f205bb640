"""The way back to a copy: it arrives, and rules remember why it was taken."""

from typing import Any

import jax
import jax.numpy as jnp

from optax_adaptive import _meter
from optax_adaptive._controller import Array
from optax_adaptive._pack import overwrite, unpack
from optax_adaptive._scale import ScaleByControllerState

# What is added to params cannot lead back from inf. So larger updates are left out; by
# then the loss has overflowed, and an alarm is due.
LARGEST_UPDATE = 1e30
# The first return from params of 1e10 ends within their rounding, or at 0; from there
# the second arrives.
RETURNS = 2


def bounded(update: Array, is_return: Array) -> Array:
    """The update, with 0 for each entry from which there would be no return.

    A return itself may be as large as it must be. Of masks of -inf it is NaN.
    """
    if not jnp.issubdtype(update.dtype, jnp.inexact):
        return update
    size = jnp.abs(update)
    finite = float(jnp.finfo(size.dtype).max)
    largest = jnp.where(is_return, finite, min(LARGEST_UPDATE, finite / 1000))
    is_kept = size <= largest.astype(size.dtype)  # NaN compares false
    return jnp.where(is_kept, update, jnp.zeros_like(update))


def keep_rules(restored: Any, current: Any) -> Any:
    """The restored inner state, with the current memory of every controller in it.

    So the next attempt is another one.
    """
    return jax.tree.map(
        lambda old, new: new if is_rule(old) else old,
        *(restored, current),
        is_leaf=is_rule,
    )


def tell_rules(inner_state: Any, is_blown_up: Array) -> Any:
    """Every controller in ``inner_state`` is asked next, with a window of value inf."""

    def told(words):
        meter = _meter.blow_up(unpack(_meter.LAYOUT, words))
        return jnp.where(is_blown_up, overwrite(words, meter), words)

    def tell(node):
        if not is_rule(node):
            return node
        memory = jax.tree.map(told, node.controller_memory)
        return node._replace(controller_memory=memory)

    return jax.tree.map(tell, inner_state, is_leaf=is_rule)


def is_rule(node: Any) -> bool:
    """Whether ``node`` is the state of a controller."""
    return isinstance(node, ScaleByControllerState)
