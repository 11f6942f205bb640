"""The slope of a history by least squares, and whether it is a trend."""

import jax
import jax.numpy as jnp

from optax_adaptive.signals.history import filled, mean

Array = jax.Array


def slope_test(history: Array, count: Array) -> Array:
    """Tests whether the ``count`` newest entries rise or decrease with their index.

    Ordinary least squares; the t statistic with ``count - 2`` degrees of freedom is
    mapped to a standard normal one by Wallace's formula: up to 3.3, that is too small
    by less than 0.1 with three degrees of freedom, 0.02 with six. The incomplete beta
    function of the exact tail would cost more compilation than all other parts of a
    rule together.

    Args:
      history: float32 of shape ``(n,)``, finite, oldest first.
      count: int32 of shape ``()``: how many of the newest count; above ``n``, all do.

    Returns:
      float32 of shape ``()``: the z score of the least-squares slope, standard normal
      if there is no trend, negative where the metric decreases; 0 where fewer than
      three entries count, or all are equal.

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
    return jnp.where(count >= 3, jnp.sign(slope) * z, 0.0)
