"""The state of a controller in an optimizer state, and how to recognise it."""

from typing import Any, NamedTuple

from optax_adaptive._controller import Array
from optax_adaptive.state.exportable import exportable

OBSERVED = "observed"  # in the name, if windows are made of what observe() is given


@exportable
class ScaleByControllerState(NamedTuple):
    """State of :func:`scale_by_controller`: read it by ``lr_scale`` and ``summary``.

    Only two leaves, since each costs dispatch time in every step: see ``packing``. The
    memory is keyed by the name of its rule and window, so that no other rule takes it.
    """

    lr_scale: Array  # shape=(), dtype=float32: the factor in force
    controller_memory: dict[str, Array]  # shape=(m,), dtype=uint32: a packed Memory


def is_controller_state(node: Any) -> bool:
    """Whether ``node`` is the state of a controller."""
    return isinstance(node, ScaleByControllerState)
