"""Constants of modules that are others for a while: what ablations are made of."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def replaced(constants: Iterable[tuple[Any, str, Any]]) -> Iterator[None]:
    """Sets each (module, name, value) within the block, and puts it back after."""
    saved = [(module, name, getattr(module, name)) for module, name, _ in constants]
    try:
        for module, name, value in constants:
            setattr(module, name, value)
        yield
    finally:
        for module, name, value in saved:
            setattr(module, name, value)
