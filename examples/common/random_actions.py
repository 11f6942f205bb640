"""The ablation that every learner must beat: bounded actions drawn at random."""

import jax
import jax.numpy as jnp
import numpy as np

from optax_adaptive import Controller

# Of numpy: what runs JAX at import keeps jax.distributed from being initialised.
ACTIONS = np.array([-1.0, -0.5, 0.0, 0.5, 1.0], np.float32)


def random_actions(max_log_scale: float = 1.3, seed: int = 0) -> Controller:
    """A factor exp(``max_log_scale`` * a) at each decision, a drawn anew.

    It does not compound, and it sees nothing. The actions are those that the learning
    rules choose from, so that what these gain over it is what they have learned.
    """

    def init_fn():
        return jax.random.PRNGKey(seed)

    def update_fn(observation, key):
        key, action_key = jax.random.split(key)
        action = jax.random.choice(action_key, jnp.asarray(ACTIONS))
        return max_log_scale * action, key

    return Controller(init_fn, update_fn)
