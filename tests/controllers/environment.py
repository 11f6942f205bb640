"""A training whose loss falls as one over time, faster or slower by the action."""

import jax
import jax.numpy as jnp
import numpy as np

from optax_adaptive import scale_by_controller

STEPS, WINDOW = 1500, 5


def log_scales(make_rule, gain, seeds=4, noise=0.05):
    """Runs ``make_rule(seed)``; returns the log factors, shape=(seeds, STEPS).

    ``gain`` maps the log factor to how many times faster than at 0 the loss falls.
    """

    def run(seed):
        tx = scale_by_controller(make_rule(seed), accumulation_size=WINDOW)

        def step(carry, x):
            loss, state = carry
            t, key = x
            value = loss + noise * jax.random.normal(key)
            scale, state = tx.update(jnp.ones(()), state, value=value)
            log_scale = jnp.log(scale)
            fall = 3.0 / (20.0 + t) * gain(log_scale)
            return (loss - fall, state), log_scale

        times = jnp.arange(STEPS, dtype=jnp.float32)
        keys = jax.random.split(jax.random.fold_in(jax.random.key(1), seed), STEPS)
        return jax.lax.scan(step, (jnp.float32(5), tx.init(None)), (times, keys))[1]

    return np.asarray(jax.jit(jax.vmap(run))(jnp.arange(seeds)))


def higher_is_better(log_scale):
    return jnp.exp(log_scale)


def lower_is_better(log_scale):
    return jnp.exp(-log_scale)


def nothing_matters(log_scale):
    return jnp.ones_like(log_scale)
