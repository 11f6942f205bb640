"""What a data set is: three splits of arrays, and how batches of them are made."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

Arrays = dict[str, np.ndarray]  # Of equal length along the first axis.
Transform = Callable[[Arrays, np.random.Generator], Arrays]


class Dataset(NamedTuple):
    """Three splits of one data set. Test is read once, at the end."""

    source: str  # Where it came from, for the log.
    train: Arrays
    validation: Arrays
    test: Arrays
    info: dict[str, Any]  # What the model must know: classes, vocabulary, …
    augment: Transform = lambda arrays, rng: arrays  # of training batches
    prepare: Transform = lambda arrays, rng: arrays  # of evaluation batches
    # As read, for a baseline: the examples that are not for testing, and the others.
    raw: Any = None


def size(arrays: Arrays) -> int:
    """How many examples there are."""
    return len(next(iter(arrays.values())))


def split(count: int, share: float) -> tuple[np.ndarray, np.ndarray]:
    """Indices of two parts, the second a ``share``, drawn with a fixed seed."""
    order = np.random.default_rng(0).permutation(count)
    cut = count - round(count * share)
    return order[:cut], order[cut:]
