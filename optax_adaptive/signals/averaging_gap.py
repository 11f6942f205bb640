"""The averaging gap: the excess loss that noise induces in the newest parameters.

To first order it is (params - average) · gradient. Noise and oscillation cause it, and
averaging removes it. Below 0, the newest parameters are still ahead of their average:
the rate is so low that only progress shows.

Inner products with gradients have long separated these regimes: those of successive
gradients (Pflug, 1983; Chee and Toulis, 2018), and that of a gradient and the
displacement from a start (Pesme, Dieuleveut and Flammarion, 2020). There they only ever
lower a rate.
"""

from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import lax

from optax_adaptive._controller import Array
from optax_adaptive.state.trees import is_inexact


def gap(origin: optax.Params, params: optax.Params, grads: Any) -> Array:
    """(params - origin) · gradient, float32 of shape (); origin is an average."""
    return _summed(
        jnp.sum(grad.astype(mean.dtype).conj() * (param.astype(mean.dtype) - mean))
        for param, mean, grad in zip(
            *map(jax.tree.leaves, (params, origin, grads)), strict=True
        )
        if is_inexact(param)
    )


def displacement(before: optax.Params, params: optax.Params) -> Array:
    """|params - before| over 1 + |params|, float32 of shape ()."""
    pairs = list(zip(*map(jax.tree.leaves, (params, before)), strict=True))
    pairs = [pair for pair in pairs if is_inexact(pair[0])]
    moves = (param.astype(old.dtype) - old for param, old in pairs)
    wide = (param.astype(old.dtype) for param, old in pairs)
    moved = _summed(jnp.sum(move.conj() * move) for move in moves)
    size = _summed(jnp.sum(param.conj() * param) for param in wide)
    return jnp.sqrt(moved) / (1.0 + jnp.sqrt(size))


def _summed(totals: Iterable[Array]) -> Array:
    """The sum of scalars, float32; non-finite ones, from masks of -inf, count as 0."""
    totals = [total.real.astype(jnp.float32) for total in totals]
    if not totals:
        return jnp.zeros((), jnp.float32)
    # Stacked, since XLA repeats a chain of scalars in each kernel that uses its end.
    stacked = jnp.stack(totals)
    return jnp.sum(jnp.where(jnp.abs(stacked) < jnp.inf, stacked, 0.0))


def compute_if(
    function: Callable[..., Array], condition: Array, *operands: Any
) -> Array:
    """``function`` of large operands, if ``condition``, else 0; float32 of shape ()."""
    return lax.cond(condition, function, _zero, *operands)


def _zero(*operands: Any) -> Array:
    del operands
    return jnp.zeros((), jnp.float32)
