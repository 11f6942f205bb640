"""warmup: a linear ramp up to the factor of a rule."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from optax_adaptive._controller import Array, Controller, ControllerState
from optax_adaptive.state.validation import check_controller, check_count


class WarmupState(NamedTuple):
    """State of :func:`warmup`."""

    warmed_log_scale: Array  # shape=(), dtype=float32: the factor under the warmup
    warmed_state: ControllerState
    is_warm: Array  # shape=(), dtype=bool: was the ramp over at the last decision?


def warmup(rule: Controller, steps: int | Array) -> Controller:
    """Ramps the factor of ``rule`` up from near 0 over the first ``steps`` steps.

    The ramp is linear in the step, counted from the first of the run, and moves once
    per window. ``rule`` decides from the first window that ends after the ramp, and
    before that where :func:`with_rollback` says that the rate has made the loss blow
    up: what it lowers, the ramp then leads to.

    Args:
      rule: The rule to warm up to.
      steps: Optimizer steps until the full factor, at least 1.

    Returns:
      A :class:`~optax_adaptive.Controller`.

    Raises:
      ValueError: If ``steps`` is not an integer of at least 1.
      TypeError: If ``rule`` is not a :class:`~optax_adaptive.Controller`.

    Example:
      >>> from optax_adaptive import controllers
      >>> rule = controllers.warmup(controllers.plateau(), steps=500)
    """
    check_controller("rule", rule)
    check_count("steps", steps)

    def ramp(step):
        return jnp.log(jnp.minimum((step + 1) / steps, 1.0)).astype(jnp.float32)

    def init_fn():
        return WarmupState(
            warmed_log_scale=jnp.array(rule.initial_log_scale, jnp.float32),
            warmed_state=rule.init(),
            is_warm=jnp.zeros((), jnp.bool_),
        )

    def decide(observation, state):
        # After the ramp, the factor in force, which bounds may have cut.
        log_scale = jnp.where(
            state.is_warm, observation.log_scale, state.warmed_log_scale
        )
        observation = observation._replace(log_scale=log_scale)
        log_scale, warmed_state = rule.update(observation, state.warmed_state)
        log_scale = jnp.asarray(log_scale, jnp.float32)  # a hyperparameter may be wider
        return WarmupState(log_scale, warmed_state, is_over(observation))

    def is_over(observation):
        return observation.step + 1 >= steps

    def wait(observation, state):
        del observation
        return state

    def update_fn(observation, state):
        decides = is_over(observation) | ~jnp.isfinite(observation.value)
        state = jax.lax.cond(decides, decide, wait, observation, state)
        return state.warmed_log_scale + ramp(observation.step), state

    def begin_fn(state, found):
        return state._replace(
            warmed_log_scale=found.log_scale,
            warmed_state=rule.begin(state.warmed_state, found),
        )

    return rule._replace(
        init=init_fn,
        update=update_fn,
        initial_log_scale=rule.initial_log_scale + ramp(jnp.zeros((), jnp.int32)),
        request=lambda state: rule.request(state.warmed_state),
        begin=begin_fn,
        name=f"warmup-{rule.name}",
    )
