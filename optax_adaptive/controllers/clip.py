"""clip: bounds how far a rule moves the scale in one decision."""

import jax.numpy as jnp

from optax_adaptive._controller import Array, Controller
from optax_adaptive.state.validation import check_controller, check_range


def clip(rule: Controller, max_change: float | Array) -> Controller:
    """Bounds how far ``rule`` moves the scale in one decision.

    The rest of the move is lost: a rule that moves once, as :func:`range_test` does
    when it backs off, does not make up for it.

    Args:
      rule: The rule to bound.
      max_change: Largest factor per decision, above 1: 2 allows halving to doubling.

    Returns:
      A :class:`~optax_adaptive.Controller` with the state of ``rule``.

    Raises:
      ValueError: If ``max_change`` is not above 1.
      TypeError: If ``rule`` is not a :class:`~optax_adaptive.Controller`.

    Example:
      >>> from optax_adaptive import controllers
      >>> rule = controllers.clip(controllers.plateau(factor=0.1), max_change=2.0)
    """
    check_controller("rule", rule)
    check_range("max_change", max_change, 1.0, open_low=True)

    def update_fn(observation, state):
        log_scale, state = rule.update(observation, state)
        bound = jnp.log(max_change)
        change = jnp.clip(log_scale - observation.log_scale, -bound, bound)
        return observation.log_scale + change, state

    return rule._replace(update=update_fn, name=f"clip-{rule.name}")
