"""select_on_rollback: what lives outside params returns with them."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from optax_adaptive.state.snapshots import find
from optax_adaptive.state.trees import over_leading_axes


def select_on_rollback(opt_state: Any, healthy: Any, current: Any) -> tuple[Any, Any]:
    """Rolls back what lives outside params: batch statistics, random keys, caches.

    Call it after each update with what belongs to the params *before* that update.

    With :func:`autotune` the copy is an average, but ``healthy`` belongs to the params
    at that time: training soon corrects batch statistics, and
    :func:`recompute_batch_stats` makes exact ones.

    Args:
      opt_state: The state that ``update`` returned; it contains :func:`with_rollback`
        or :func:`autotune`, once.
      healthy: What to restore: what this function returned last; before the first
        update, anything of the right structure.
      current: A pytree of the same structure, shapes and dtypes.

    Returns:
      ``(healthy, current)``: after a snapshot both are ``current``, after a return to
      it both are ``healthy``, else they are unchanged, except that what is not finite
      in ``current``, as the statistics of a bad batch, whose update is skipped, is that
      of ``healthy``. It works inside ``jax.jit``.

    Raises:
      ValueError: If there is no snapshot in the state, or more than one.

    Example:
      >>> import jax.numpy as jnp, optax, optax_adaptive
      >>> tx = optax_adaptive.with_rollback(optax.sgd(0.1))
      >>> params = jnp.array(1.0)
      >>> state, healthy, seen = tx.init(params), 0, 0
      >>> for step, loss in enumerate([1.0, 0.9] + 10 * [float("nan")]):
      ...     updates, state = tx.update(params, state, params, value=loss)
      ...     healthy, seen = optax_adaptive.select_on_rollback(state, healthy, step)
      >>> int(seen)
      0
    """
    state = find(opt_state)
    flags = jax.tree.leaves((state.is_taken, state.is_restored))

    def finite(current, healthy):
        if not jnp.issubdtype(jnp.result_type(current), jnp.inexact):
            return current
        return jnp.where(jnp.isfinite(current), current, healthy)

    def select(is_taken, is_restored, healthy, current):
        current = jax.tree.map(finite, current, healthy)
        healthy = optax.tree.where(is_taken, current, healthy)
        return healthy, optax.tree.where(is_restored, healthy, current)

    is_taken, is_restored = flags
    select = over_leading_axes(select, is_taken.ndim)
    return select(is_taken, is_restored, healthy, current)
