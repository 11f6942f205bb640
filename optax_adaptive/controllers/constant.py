"""constant: never moves. The ablation that shows the effect of the wrappers alone."""

from optax_adaptive._controller import Controller


def constant() -> Controller:
    """Keeps the factor where it is. ``hold`` is an alias.

    With it, the updates are bitwise those of the bare optimizer.

    Returns:
      A :class:`~optax_adaptive.Controller` without state.

    Example:
      >>> import jax.numpy as jnp, optax_adaptive
      >>> rule = optax_adaptive.controllers.constant()
      >>> tx = optax_adaptive.scale_by_controller(rule)
      >>> updates, _ = tx.update(jnp.array(3.0), tx.init(None), value=1.0)
      >>> float(updates)
      3.0
    """

    def init_fn():
        return ()

    def update_fn(observation, state):
        return observation.log_scale, state

    return Controller(init_fn, update_fn, name="constant")
