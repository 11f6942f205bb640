"""What a task is: a small training as pure functions, so that a run is one scan."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax

Array = jax.Array
Split = Literal["train", "validation", "test"]


class Task(NamedTuple):
    """A training problem; parameters are any pytree.

    Batches are drawn inside the loss by a random key. Evaluation draws nothing: it
    gives the metric, without dropout or label noise, on a fixed part of each split.
    """

    steps: int
    steps_per_epoch: int  # how many batches hold as many examples as the training split
    init: Callable[[Array], Any]  # key -> params
    loss: Callable[[Any, Array], Array]  # params, key -> float32[]
    evaluate: Callable[[Any, Split], Array]  # params, split -> float32[]
    is_accuracy: bool  # evaluate gives percent correct; otherwise a loss
    unit: str
