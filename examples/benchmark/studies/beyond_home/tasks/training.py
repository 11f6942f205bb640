"""What a training of this study is: a task, and what a task leaves out."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import optax

from benchmark.tasks.task import Task
from methods.optimizers import Make


class Training(NamedTuple):
    """A task with its own optimizer, and a guess of the rate for a start."""

    task: Task
    optimizer: Make  # learning rate -> optimizer
    rate: float  # of the cosine: where its tuning begins
    # params -> "train" or "frozen" for each leaf; None: all are trained
    labels: Callable[[Any], Any] | None = None


def has_decay(params: Any) -> Any:
    """Whether a leaf decays: matrices do, and gains and biases do not."""
    return jax.tree.map(lambda leaf: leaf.ndim > 1, params)


def clipped_adamw(b2: float, rate: Any) -> optax.GradientTransformation:
    """AdamW with a decay of 0.1 on matrices, after gradients of a norm of 1 at most."""
    adamw = optax.adamw(rate, b2=b2, weight_decay=0.1, mask=has_decay)
    return optax.chain(optax.clip_by_global_norm(1.0), adamw)


language_adamw = partial(clipped_adamw, 0.99)
