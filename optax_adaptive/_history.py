"""The fixed buffer of window means, and the statistics that rules draw from it."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

Array = jax.Array


class Slope(NamedTuple):
    """Least-squares slope of a history, and how sure it is."""

    value: Array  # shape=(), dtype=float32: metric units a window
    z: Array  # shape=(), dtype=float32: standard normal if there is no trend


def push(buffer: Array, entry: Array) -> Array:
    """Drops the oldest entry of ``buffer`` and appends ``entry``, both float32."""
    return jnp.concatenate([buffer[1:], entry[None]])


def newest(mask: Array, count: Array) -> Array:
    """Keeps at most the ``count`` newest entries of a history's ``mask``."""
    size = mask.shape[0]
    return mask & (jnp.arange(size, dtype=jnp.int32) >= size - count)


def mean(history: Array, mask: Array) -> Array:
    """Mean of the entries that ``mask`` keeps; 0 where it keeps none."""
    kept = jnp.maximum(jnp.sum(mask, dtype=jnp.int32), 1).astype(jnp.float32)
    # Dividing first: a sum of values near the float32 limit would overflow.
    return jnp.sum(jnp.where(mask, history / kept, 0.0))


def difference_error(history: Array, mask: Array) -> Array:
    """Noise of a single entry, from successive differences; 0 below two entries.

    The root of half the mean squared difference, which a slow trend hardly moves.

    Reference:
      von Neumann, *Distribution of the ratio of the mean square successive difference
      to the variance*, Annals of Mathematical Statistics 12, 1941
    """
    pairs = mask[1:] & mask[:-1]
    differences = jnp.where(pairs, history[1:] - history[:-1], 0.0)
    largest = jnp.max(jnp.abs(differences))
    unit = differences / jnp.where(largest > 0, largest, 1.0)
    return largest * jnp.sqrt(mean(jnp.square(unit), pairs) / 2)


def slope_test(history: Array, mask: Array) -> Slope:
    """Tests whether the entries that ``mask`` keeps rise or fall with their index.

    Ordinary least squares; the t statistic with ``m - 2`` degrees of freedom is mapped
    to a standard normal one by Wallace's formula, accurate to about 0.02 from three
    degrees of freedom on. The incomplete beta function of the exact tail would cost
    more compilation than all other parts of a rule together.

    Args:
      history: float32 of shape ``(n,)``, finite.
      mask: bool of shape ``(n,)``: which entries count.

    Returns:
      The slope a window and its z score, negative where the metric falls. Both are 0
      when fewer than three entries count or when all are equal.

    Reference:
      Wallace, *Bounds on normal approximations to Student's and the chi-square
      distributions*, Annals of Mathematical Statistics 30, 1959
    """
    kept = jnp.sum(mask, dtype=jnp.int32).astype(jnp.float32)
    index = jnp.arange(history.shape[0], dtype=jnp.float32)
    x = jnp.where(mask, index - mean(index, mask), 0.0)
    y = jnp.where(mask, history - mean(history, mask), 0.0)
    # Unit spread, so that squares neither overflow nor vanish: 1e30 is a legal metric.
    spread = jnp.max(jnp.abs(y))
    y = y / jnp.where(spread > 0, spread, 1.0)
    sxx = jnp.sum(x * x)
    slope = jnp.sum(x * y) / jnp.where(sxx > 0, sxx, 1.0)
    freedom = jnp.maximum(kept - 2, 1)
    residual = jnp.sum(jnp.square(y - slope * x)) / freedom
    # A perfect line has no residual; the floor is float32's rounding of the entries.
    squared_error = jnp.maximum(residual, 1e-12) / jnp.where(sxx > 0, sxx, 1.0)
    t2 = slope * slope / squared_error
    z = (
        (8 * freedom + 1)
        / (8 * freedom + 3)
        * jnp.sqrt(freedom * jnp.log1p(t2 / freedom))
    )
    is_known = kept >= 3
    return Slope(
        value=jnp.where(is_known, slope * spread, 0.0),
        z=jnp.where(is_known, jnp.sign(slope) * z, 0.0),
    )
