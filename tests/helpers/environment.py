"""A training whose loss falls as one over time, faster or slower by the action."""

import jax
import jax.numpy as jnp
import numpy as np

from optax_adaptive import scale_by_controller
from tests.helpers.loud import loud

STEPS, WINDOW = 1500, 5
NOISE = 0.05  # standard deviation of a loss


def log_scales(make_rule, powers, seeds):
    """Runs ``make_rule(seed)``; log factors of shape=(len(powers), seeds, STEPS).

    The loss falls as ``factor ** power``: 1 means that higher is better, and 0 that
    nothing matters. All in one compiled run.
    """

    def run(power, seed):
        rule = loud(make_rule(seed))
        tx = scale_by_controller(rule, accumulation_size=WINDOW)

        def step(carry, x):
            loss, state = carry
            t, key = x
            value = loss + NOISE * jax.random.normal(key)
            scale, state = tx.update(jnp.ones(()), state, value=value)
            log_scale = jnp.log(scale)
            decrease = 3.0 / (20.0 + t) * jnp.exp(power * log_scale)
            return (loss - decrease, state), log_scale

        times = jnp.arange(STEPS, dtype=jnp.float32)
        keys = jax.random.split(jax.random.fold_in(jax.random.key(1), seed), STEPS)
        return jax.lax.scan(step, (jnp.float32(5), tx.init(None)), (times, keys))[1]

    # One vmap over all pairs: each vmap around a scan is traced anew.
    pairs = np.repeat(np.float32(powers), seeds), np.tile(np.arange(seeds), len(powers))
    logs = np.asarray(jax.jit(jax.vmap(run))(*pairs))
    return logs.reshape(len(powers), seeds, STEPS)
