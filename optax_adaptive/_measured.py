"""What the wrappers hand down to rules, as the keyword ``measured`` of ``update``."""

from typing import Any, NamedTuple

import optax

from optax_adaptive._controller import Array


class Measured(NamedTuple):
    """None where the wrapper that measures it is not there."""

    # Of with_averaging:
    averaging_gap: Array | None = None  # shape=(), dtype=float32
    has_gap: Array | None = None  # shape=(), dtype=bool: was it measured at this step?
    average: optax.Params | None = None  # for with_rollback, which hands it to no one
    displacement: Array | None = None  # shape=(), dtype=float32: if calibrating; or 0
    # Of with_rollback:
    value: Array | None = None  # shape=(), dtype=float32: without its spikes
    is_new: Array | None = None  # shape=(), dtype=bool: is it of params that count?
    return_slope: Array | None = None  # shape=(), dtype=float32
    gradient_size: Array | None = None  # shape=(), dtype=float32

    def wrappers(self) -> tuple[str, ...]:
        """The wrappers that there are."""
        found = {
            "with_averaging": self.averaging_gap is not None,
            "with_rollback": self.return_slope is not None,
        }
        return tuple(name for name, is_there in found.items() if is_there)


def handed_down(extra_args: dict[str, Any], measured: Measured) -> dict[str, Any]:
    """What ``update`` of the transformations inside is given.

    A line search hands what it does not know to ``value_fn``, which would complain.
    """
    if "value_fn" in extra_args:
        return extra_args
    return extra_args | {"measured": measured}
