"""The rules in an inner state: what they ask for, and what they are told."""

from typing import Any

import jax
import jax.numpy as jnp

from optax_adaptive._controller import Array, Request, merged, nothing
from optax_adaptive.signals import window_statistics
from optax_adaptive.state.controller_state import is_controller_state
from optax_adaptive.state.packing import overwrite, unpack
from optax_adaptive.state.snapshots import SnapshotState
from optax_adaptive.state.tag import bare


def requests(inner_state: Any) -> Request:
    """What the controllers in ``inner_state`` ask for, together."""

    def is_end(node):  # what lies in a copy asks for nothing
        return is_controller_state(node) or isinstance(node, SnapshotState)

    asked = [
        unpack(window_statistics.LAYOUT, bare(node.controller_memory)).request
        for node in jax.tree.leaves(inner_state, is_leaf=is_end)
        if is_controller_state(node)
    ]
    return merged(*asked) if asked else nothing()


def tell_rules(inner_state: Any, is_blown_up: Array) -> Any:
    """Every controller in ``inner_state`` is asked next, with a window of value inf."""

    def told(words):
        meter = window_statistics.blow_up(unpack(window_statistics.LAYOUT, words))
        return jnp.where(is_blown_up, overwrite(words, meter), words)

    def tell(node):
        if not is_controller_state(node):
            return node
        memory = jax.tree.map(told, node.controller_memory)
        return node._replace(controller_memory=memory)

    return jax.tree.map(tell, inner_state, is_leaf=is_controller_state)
