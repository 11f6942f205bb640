"""What must be the same on all devices: averaged over them, or refused."""

from typing import Any

import jax
from jax import lax

from optax_adaptive._controller import Array

# What to do, where axis_name can do it, and where it cannot.
AVERAGE = "average it by jax.lax.pmean first, or pass axis_name="
AVERAGE_GRADIENTS = (
    "average them by jax.lax.pmean first, and keep params whole on each device"
)


def mean_over_devices(number: Array, axis_name: Any) -> Array:
    """The mean over a mesh axis, inside ``pmap`` or ``shard_map``; None is no axis."""
    return number if axis_name is None else lax.pmean(number, axis_name)


def check_same_on_devices(name: str, tree: Any, state: Any, remedy: str) -> None:
    """Raises ValueError if ``tree`` varies over a mesh axis, and ``state`` does not.

    Else each device would decide by itself. Types show it inside ``jax.shard_map``,
    unless ``check_vma=False``. If the state varies too, as with one model per device,
    ``tree`` may.
    """
    axes = _varying(tree) - _varying(state)
    if axes:
        raise ValueError(
            f"{name} must be the same on all devices, as the state is, but may vary "
            f"over the mesh axis {', '.join(map(repr, sorted(axes)))}: {remedy}"
        )


def _varying(tree: Any) -> frozenset[str]:
    kinds = map(jax.typeof, jax.tree.leaves(tree))
    # With a default: JAX has renamed it before, and that must not break a step.
    manual = [getattr(kind, "manual_axis_type", None) for kind in kinds]
    return frozenset().union(*(one.varying for one in manual if one is not None))
