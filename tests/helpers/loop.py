"""A plain loop over given gradients and losses."""

import jax
import optax


def run(tx, params, grads, values):
    """Plain loop over given gradients and losses; all params on the way."""
    state, seen = tx.init(params), []
    update = jax.jit(tx.update)
    for grad, value in zip(grads, values, strict=True):
        updates, state = update(grad, state, params, value=value)
        params = optax.apply_updates(params, updates)
        seen.append(params)
    return seen, state
