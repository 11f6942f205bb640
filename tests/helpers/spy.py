"""A rule that holds, and keeps what it is shown."""

import jax

from optax_adaptive import Controller


def spy():
    """Returns the rule and the list of its observations, which fills as it runs.

    Wait with ``jax.effects_barrier()`` before reading the list.
    """
    seen = []

    def update_fn(observation, state):
        jax.debug.callback(seen.append, observation, ordered=True)
        return observation.log_scale, state

    return Controller(lambda: (), update_fn), seen
