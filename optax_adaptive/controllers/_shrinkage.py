"""By how much the updates that arrive have shrunk since the trials.

A rule sees its factor, and not what else there is in the chain: around a schedule the
rate falls without it. So ``learned`` takes for its rate what the updates make of that.
At a constant rate Adam's shrink as well, once, while its gradients turn to noise: to
sqrt((1 - b1) / (1 + b1)) of the rate at most, a quarter. SGD's fall with the gradients,
as those of a loss without noise do, and there a larger rate is right: it goes towards
gradients of one length (Nesterov, 1984).
"""

import math
from typing import NamedTuple

import jax.numpy as jnp
import optax

from optax_adaptive._controller import Array

FIRST = 20  # windows after which the average is what later ones are compared with
NEWEST = 0.1  # weight of the newest window in it
OWN = math.log(2.0)  # that much is left out: Adam's own, which calls for no larger rate
MOST = 7.0  # nats: at the end of a cosine the updates vanish


class Shrinkage(NamedTuple):
    """An average of the log size of the updates."""

    windows: Array  # shape=(), dtype=int32: in which they had a size
    first: Array  # shape=(), dtype=float32: as it was after the first windows
    newest: Array  # shape=(), dtype=float32: over about ten windows


def first_shrinkage() -> Shrinkage:
    """Before the first window."""
    zero = jnp.zeros((), jnp.float32)
    return Shrinkage(windows=jnp.zeros((), jnp.int32), first=zero, newest=zero)


def add(shrinkage: Shrinkage, update_size: Array) -> Shrinkage:
    """Takes in a window; updates of size 0 say nothing."""
    is_measured = update_size > 0.0
    log_size = jnp.log(jnp.where(is_measured, update_size, 1.0))
    windows = shrinkage.windows + 1
    weight = jnp.maximum(1.0 / windows.astype(jnp.float32), NEWEST)
    newest = shrinkage.newest + weight * (log_size - shrinkage.newest)
    first = jnp.where(windows <= FIRST, newest, shrinkage.first)
    added = Shrinkage(windows=windows, first=first, newest=newest)
    return optax.tree.where(is_measured, added, shrinkage)


def log_factor(shrinkage: Shrinkage) -> Array:
    """Log of the newest size over half of the first, float32, at most 0."""
    return jnp.clip(shrinkage.newest - shrinkage.first + OWN, -MOST, 0.0)
