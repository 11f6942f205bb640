"""The ablation that every learner must beat: bounded actions drawn at random."""

import jax
import jax.numpy as jnp

from optax_adaptive import Controller

ACTIONS = (-1.0, -2 / 3, -1 / 3, 0.0, 1 / 3, 2 / 3, 1.0)


def random_actions(alpha: float = 2.3, seed: int = 0) -> Controller:
    """A factor exp(``alpha`` * a) at each decision, a drawn anew.

    It does not compound, and it sees nothing. The actions are thirds of the bound, for
    a window each, and from the first one on.
    """

    def init_fn():
        return jax.random.PRNGKey(seed)

    def update_fn(observation, key):
        key, action_key = jax.random.split(key)
        action = jax.random.choice(action_key, jnp.array(ACTIONS, jnp.float32))
        return alpha * action, key

    return Controller(init_fn, update_fn)
