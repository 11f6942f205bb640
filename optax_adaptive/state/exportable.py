"""States that jax.export can serialise: NamedTuples, registered by their names."""

import contextlib
from typing import TypeVar

from jax import export

Kind = TypeVar("Kind", bound=type)


def exportable(kind: Kind) -> Kind:
    """Registers a NamedTuple type with ``jax.export``, and returns it."""
    with contextlib.suppress(ValueError):  # it is registered already
        export.register_namedtuple_serialization(
            kind, serialized_name=f"{kind.__module__}.{kind.__qualname__}"
        )
    return kind
