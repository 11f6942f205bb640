"""The fixed buffer of window means, and the statistics that rules draw from it."""

import jax
import jax.numpy as jnp

Array = jax.Array


def push(buffer: Array, entry: Array, is_pushed: bool | Array = True) -> Array:
    """Drops the oldest entry of ``buffer`` and appends ``entry``, if ``is_pushed``."""
    # A slice that starts one entry later only moves data; a select would compute.
    start = jnp.asarray(is_pushed).astype(jnp.int32)
    longer = jnp.concatenate([buffer, entry[None]])
    return jax.lax.dynamic_slice(longer, (start,), buffer.shape)


def filled(size: int, count: Array) -> Array:
    """Mask of shape ``(size,)`` of a buffer after ``count`` pushes, dtype bool."""
    return jnp.arange(size, dtype=jnp.int32) >= size - count


def mean(history: Array, count: Array) -> Array:
    """Mean of the ``count`` newest entries; 0 if there are none."""
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
    """Mean of float32 of shape (n,) without its largest entry, which may be a spike."""
    order = jnp.arange(values.size, dtype=jnp.int32)
    largest = jnp.argmax(values).astype(jnp.int32)
    kept = jnp.where(order == largest, 0.0, values)
    return jnp.sum(kept) / (values.size - 1)


def difference_error(history: Array, count: Array) -> Array:
    """Noise of a single entry, by the ``count`` newest; 0 if they are fewer than two.

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
