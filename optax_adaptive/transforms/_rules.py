"""The rules in an inner state: what they ask for, and how they learn of a spike."""

from typing import Any

import jax
import jax.numpy as jnp

from optax_adaptive._controller import Array, Request, merged, nothing
from optax_adaptive.signals import window_statistics
from optax_adaptive.state.controller_state import (
    ScaleByControllerState,
    is_controller_state,
)
from optax_adaptive.state.packing import overwrite, unpack
from optax_adaptive.state.snapshots import SnapshotState
from optax_adaptive.state.tag import unwrap_any
from optax_adaptive.state.trees import nodes_of


def requests(inner_state: Any) -> Request:
    """What the controllers in ``inner_state`` ask for, together."""
    # Controllers in a copy ask for nothing.
    states = nodes_of(inner_state, ScaleByControllerState, stop=SnapshotState)
    asked = [
        unpack(window_statistics.LAYOUT, unwrap_any(state.controller_memory)).request
        for state in states
    ]
    return merged(*asked) if asked else nothing()


def notify(inner_state: Any, is_spike: Array, is_blown_up: Array) -> Any:
    """Empties open windows after a spike; if the rate is to blame, they end as inf."""

    def notified(words):
        read = unpack(window_statistics.LAYOUT, words)
        statistics = window_statistics.roll_back(read, is_blown_up)
        return jnp.where(is_spike, overwrite(words, statistics, read), words)

    def visit(node):
        if not is_controller_state(node):
            return node
        memory = jax.tree.map(notified, node.controller_memory)
        return node._replace(controller_memory=memory)

    return jax.tree.map(visit, inner_state, is_leaf=is_controller_state)
