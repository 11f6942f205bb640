"""Batch-norm statistics that fit averaged weights."""

from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp

from optax_adaptive._controller import Array
from optax_adaptive.state.trees import wide


def recompute_batch_stats(
    batch_stats_fn: Callable[[Any], Any], batches: Iterable[Any]
) -> Any:
    """Batch-norm statistics for averaged weights: the mean over some batches.

    Args:
      batch_stats_fn: Maps a batch to a pytree of that batch's own statistics, at the
        averaged weights: a forward pass in training mode, with momentum 0. Start it
        from fresh statistics: 0 times the NaN of a run that blew up is NaN.
      batches: Training batches of one size; ten or twenty are enough.

    Returns:
      The mean of the statistics, a pytree of the same structure and dtypes: taken in at
      least float32, then cast.

    Raises:
      ValueError: If there is no batch, or ``batch_stats_fn`` returns no statistics.

    Example:
      >>> import jax.numpy as jnp, optax_adaptive
      >>> batches = [jnp.array([1.0, 3.0]), jnp.array([5.0, 7.0])]
      >>> stats = optax_adaptive.recompute_batch_stats(jnp.mean, batches)
      >>> float(stats)
      4.0

    Reference:
      Izmailov et al., `Averaging Weights Leads to Wider Optima and Better
      Generalization <https://arxiv.org/abs/1803.05407>`_, 2018.
    """
    mean, stats, count = None, None, 0
    for batch in batches:
        stats = jax.tree.map(jnp.asarray, batch_stats_fn(batch))
        count += 1
        widened = jax.tree.map(lambda leaf: leaf.astype(wide(leaf.dtype)), stats)
        mean = widened if mean is None else _lerp(mean, widened, 1.0 / count)
    if not count:
        raise ValueError("batches must hold at least one batch, but it is empty")
    if not jax.tree.leaves(stats):
        raise ValueError(
            f"batch_stats_fn must return the statistics of a batch, but it returned "
            f"{stats!r}; of an NNX model return nnx.state(model, nnx.BatchStat)"
        )
    return jax.tree.map(_rounded, mean, stats)


def _rounded(mean: Array, like: Array) -> Array:
    is_inexact = jnp.issubdtype(like.dtype, jnp.inexact)
    return (mean if is_inexact else jnp.round(mean)).astype(like.dtype)


def _lerp(old: Any, new: Any, weight: float) -> Any:
    return jax.tree.map(lambda a, b: a + weight * (b - a), old, new)
