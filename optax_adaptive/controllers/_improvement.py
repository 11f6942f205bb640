"""When a metric counts as better than the best one so far."""

import jax.numpy as jnp

from optax_adaptive._controller import Array


def beats(value: Array, best: Array, rtol: float | Array, atol: float | Array) -> Array:
    """Whether ``value`` lies below ``best`` by more than ``rtol * |best| + atol``.

    An infinite ``best`` (none yet) is beaten by any finite value, and an infinite
    value beats nothing.
    """
    # Written as optax's (1 - rtol) * best - atol, rounding and all, so that equal
    # metrics lead to equal decisions. inf is taken out: 0 * inf would be NaN.
    is_first = jnp.isinf(best)
    relative = jnp.where(best >= 0, 1 - rtol, 1 + rtol)
    threshold = jnp.where(is_first, 0.0, best) * relative - atol
    return jnp.isfinite(value) & (is_first | (value < threshold))
