"""The fixed buffer of window means, and the statistics that rules draw from it."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

Array = jax.Array


class Slope(NamedTuple):
    """Least-squares slope of a history, and how sure it is."""

    value: Array  # shape=(), dtype=float32: metric units a window
    z: Array  # shape=(), dtype=float32: standard normal if there is no trend


def push(buffer: Array, entry: Array, is_pushed: bool | Array = True) -> Array:
    """Drops the oldest entry of ``buffer`` and appends ``entry``, if ``is_pushed``."""
    # A slice that starts one later moves data only, where a select would compute.
    start = jnp.asarray(is_pushed).astype(jnp.int32)
    longer = jnp.concatenate([buffer, entry[None]])
    return jax.lax.dynamic_slice(longer, (start,), buffer.shape)


def filled(size: int, count: Array) -> Array:
    """Mask of shape ``(size,)`` of a buffer after ``count`` pushes, dtype bool."""
    return jnp.arange(size, dtype=jnp.int32) >= size - count


def mean(history: Array, count: Array) -> Array:
    """Mean of the ``count`` newest entries; 0 where that is none."""
    size = history.shape[0]
    kept = jnp.clip(count, 1, size).astype(jnp.float32)
    # Dividing first: a sum of values near the float32 limit would overflow.
    return jnp.sum(jnp.where(filled(size, count), history / kept, 0.0))


def median(values: Array) -> Array:
    """Median of float32 of shape (n,), by ranks: a sort takes longer to compile."""
    order = jnp.arange(values.size, dtype=jnp.int32)
    one, other = values[:, None], values[None, :]
    is_before = (other < one) | ((other == one) & (order[None, :] < order[:, None]))
    rank = jnp.sum(is_before, axis=1, dtype=jnp.int32)
    low, high = (values.size - 1) // 2, values.size // 2
    middle = jnp.where((rank == low) | (rank == high), values, 0.0)
    return jnp.sum(middle) / (1 + (low != high))


def mean_without_largest(values: Array) -> Array:
    """Mean of all but the largest of float32 of shape (n,): it may be a spike."""
    order = jnp.arange(values.size, dtype=jnp.int32)
    largest = jnp.argmax(values).astype(jnp.int32)
    kept = jnp.where(order == largest, 0.0, values)
    return jnp.sum(kept) / (values.size - 1)


def difference_error(history: Array, count: Array) -> Array:
    """Noise of one of the ``count`` newest entries; 0 where they are fewer than two.

    The root of half the mean squared successive difference, which a slow trend hardly
    moves.

    Reference:
      von Neumann, *Distribution of the ratio of the mean square successive difference
      to the variance*, Annals of Mathematical Statistics 12, 1941
    """
    pairs = jnp.maximum(count - 1, 0)
    differences = history[1:] - history[:-1]
    differences = jnp.where(filled(differences.shape[0], pairs), differences, 0.0)
    largest = jnp.max(jnp.abs(differences))
    unit = differences / jnp.where(largest > 0, largest, 1.0)
    return largest * jnp.sqrt(mean(jnp.square(unit), pairs) / 2)


def slope_test(history: Array, count: Array) -> Slope:
    """Tests whether the ``count`` newest entries rise or fall with their index.

    Ordinary least squares; the t statistic with ``count - 2`` degrees of freedom is
    mapped to a standard normal one by Wallace's formula: up to 3.3 it is too small by
    less than 0.1 with three degrees of freedom, and 0.02 with six. The incomplete beta
    function of the exact tail would cost more compilation than all other parts of a
    rule together.

    Args:
      history: float32 of shape ``(n,)``, finite, oldest first.
      count: int32 of shape ``()``: how many of the newest count; above ``n``, all do.

    Returns:
      The slope a window and its z score, negative where the metric falls. Both are 0
      when fewer than three entries count or when all are equal.

    Reference:
      Wallace, *Bounds on normal approximations to Student's and the chi-square
      distributions*, Annals of Mathematical Statistics 30, 1959
    """
    size = history.shape[0]
    kept = jnp.clip(count, 3, size).astype(jnp.float32)
    mask = filled(size, count)
    # The index is equally spaced, so its moments need no sums.
    x = jnp.arange(size, dtype=jnp.float32) - (size - (kept + 1) / 2)
    sxx = kept * (kept * kept - 1) / 12
    center = mean(history, count)
    y = jnp.where(mask, history - center, 0.0)
    # Unit spread, so that squares neither overflow nor vanish: 1e30 is a legal metric.
    spread = jnp.max(jnp.abs(y))
    spread = jnp.where(spread > 0, spread, 1.0)
    y = y / spread
    slope = jnp.sum(x * y) / sxx
    residual = jnp.sum(jnp.where(mask, jnp.square(y - slope * x), 0.0))
    # A perfect line has no residual: the floor is float32's rounding of the entries,
    # lest metrics of 1000 that differ in their last bit look like a strong trend.
    rounding = jnp.finfo(jnp.float32).eps * (1 + jnp.abs(center / spread))
    freedom = kept - 2
    residual = jnp.maximum(residual, kept * jnp.square(rounding))
    t2 = jnp.square(slope) * sxx * freedom / residual
    wallace = (8 * freedom + 1) / (8 * freedom + 3)
    z = wallace * jnp.sqrt(freedom * jnp.log1p(t2 / freedom))
    is_known = count >= 3
    return Slope(
        value=jnp.where(is_known, slope * spread, 0.0),
        z=jnp.where(is_known, jnp.sign(slope) * z, 0.0),
    )
