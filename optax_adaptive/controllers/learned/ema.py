"""An exponential moving average of scalars."""

from typing import NamedTuple

import jax.numpy as jnp

from optax_adaptive._controller import Array
from optax_adaptive.state.trees import saturating_add


class Ema(NamedTuple):
    """An exponential moving average, which starts at its first entry."""

    mean: Array  # shape=(), dtype=float32: 0 before the first
    count: Array  # shape=(), dtype=int32: entries so far


def first_ema() -> Ema:
    """The average before the first entry."""
    return Ema(jnp.zeros((), jnp.float32), jnp.zeros((), jnp.int32))


def add(ema: Ema, entry: Array, weight: float | Array, is_new: Array) -> Ema:
    """The average with one entry more, if ``is_new``."""
    count = saturating_add(ema.count, is_new)
    weight = jnp.where(count <= 1, 1.0, weight)
    weight = jnp.where(is_new, weight, 0.0)
    return Ema(ema.mean + weight * (entry - ema.mean), count)


def add_as_mean(ema: Ema, entry: Array, weight: float | Array, is_new: Array) -> Ema:
    """The same, with at least the weight that a plain mean has, and at most 1."""
    count = saturating_add(ema.count, is_new)
    weight = jnp.minimum(jnp.maximum(one_over(count), weight), 1.0)
    return add(ema, entry, weight, is_new)


def one_over(count: Array) -> Array:
    """Weight of the newest of ``count`` in their mean, float32; 1 if there are none."""
    return 1.0 / jnp.maximum(count, 1).astype(jnp.float32)
