"""check_replicas: finds out whether devices or processes have come to differ."""

from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from optax_adaptive.state.validation import is_concrete

# Fields whose leaves are a few words, and hold all that decisions depend on.
_DECIDE = {"lr_scale", "controller_memory", "rollback_memory"}
_REMEDY = (
    "each was handed a `value` or gradients of its own. Hand in those of the whole "
    "batch (docs/devices.md), and go on from the last checkpoint before they differed"
)


def check_replicas(opt_state: Any) -> None:
    """Raises unless all devices and processes have the same state of the rules.

    Under ``jax.jit``, XLA takes on trust that a plain number is the same in all
    processes; so do ``jax.pmap``, and ``jax.shard_map`` with ``check_vma=False``, for
    devices. If each has a ``value`` of its own, their rates come to differ, and nothing
    raises. Call this every few hundred steps, outside ``jax.jit``, in every process and
    at the same step. It waits for what rules and :func:`with_rollback` remember, some
    hundred words, and compares it bit by bit.

    Args:
      opt_state: The state of an optimizer that contains ``scale_by_controller``,
        :func:`autotune` or :func:`with_rollback`, replicated over devices or whole in
        each process. Leaves that are split over devices, as ``jax.pmap`` leaves them,
        are not looked at.

    Raises:
      ValueError: In every process, if devices or processes differ; if there is nothing
        to compare, or the state is traced.

    Example:
      >>> import jax.numpy as jnp, optax, optax_adaptive
      >>> from optax_adaptive import integrations
      >>> tx = optax_adaptive.autotune(optax.adam(1e-3))
      >>> integrations.check_replicas(tx.init(jnp.ones(2)))
    """
    copies = {path: _copies(leaf) for path, leaf in _deciding(opt_state).items()}
    if not any(any(ones) for ones in copies.values()):
        raise ValueError(
            "all of this state is split over devices, as by jax.pmap: there is nothing "
            "to compare"
        )
    names = list(copies)
    is_alike = [all(one == first for one in ones) for first, *ones in copies.values()]
    firsts = np.frombuffer(b"".join(first for first, *_ in copies.values()), np.uint8)
    row = np.concatenate([np.array(is_alike, np.uint8), firsts])
    # Each process compares all, or some would raise while the others wait for them.
    rows = np.atleast_2d(multihost_utils.process_allgather(row))
    for index, other in enumerate(rows):
        alike, words = other[: len(names)], other[len(names) :]
        if not alike.all():
            raise ValueError(
                f"the devices of process {index} differ in their optimizer state, at "
                f"{names[int(np.argmin(alike))]}: {_REMEDY}"
            )
        if not np.array_equal(words, rows[0, len(names) :]):
            raise ValueError(
                f"the optimizer state of process {index} is not that of process 0: "
                f"{_REMEDY}"
            )


def _deciding(opt_state: Any) -> dict[str, Any]:
    found = {}
    for path, leaf in jax.tree.leaves_with_path(opt_state):
        names = [jax.tree_util.keystr((key,), simple=True) for key in path]
        if _DECIDE.isdisjoint(names):
            continue
        if not is_concrete(leaf):
            raise ValueError("check_replicas compares numbers: call it outside jax.jit")
        found["/".join(names)] = leaf
    if not found:
        raise ValueError(
            "no controller and no with_rollback in this optimizer state: pass the one "
            f"that tx.init or tx.update gave (this is a {type(opt_state).__name__})"
        )
    return found


def _copies(leaf: Any) -> list[bytes]:
    """A leaf as each device of this process has it, as bytes: so NaN equals itself."""
    if not isinstance(leaf, jax.Array):
        return [np.asarray(leaf).tobytes()]
    if not leaf.is_fully_replicated:
        return [b""]
    return [np.asarray(shard.data).tobytes() for shard in leaf.addressable_shards]
