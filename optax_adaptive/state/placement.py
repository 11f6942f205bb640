"""Where the small leaves of a state lie: on the devices of the params."""

from typing import Any

import jax
from jax.core import Tracer
from jax.sharding import NamedSharding, PartitionSpec

from optax_adaptive._controller import Array


def beside(params: Any, state: Any) -> Any:
    """``state``, with what lies on one device copied to all devices of ``params``.

    Else the first update would do that, and the second one would compile anew for it.
    Where params are traced or placeholders, so is the state, and nothing is done.
    """
    meshes = {
        leaf.sharding.mesh
        for leaf in jax.tree.leaves(params)
        if _is_placed(leaf) and isinstance(leaf.sharding, NamedSharding)
    }
    if len(meshes) != 1:
        return state
    (mesh,) = meshes
    if mesh.size < 2:
        return state
    everywhere = NamedSharding(mesh, PartitionSpec())

    def place(leaf: Any) -> Array:
        is_elsewhere = _is_placed(leaf) and len(leaf.sharding.device_set) == 1
        return jax.device_put(leaf, everywhere) if is_elsewhere else leaf

    return jax.tree.map(place, state)


def _is_placed(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array) and not isinstance(leaf, Tracer)
