"""as_schedule: a rule as an optax stateful schedule, for inject_hyperparams."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from optax_adaptive._controller import Controller
from optax_adaptive.state.validation import check_range
from optax_adaptive.transforms.scale_by_controller import (
    ScaleByControllerState,
    scale_by_controller,
)

Array = jax.Array


class _ControlledSchedule:
    """A stateful schedule of optax: base learning rate times the factor of a rule."""

    def __init__(
        self, learning_rate: float, scaling: optax.GradientTransformationExtraArgs
    ):
        self._learning_rate = learning_rate
        self._scaling = scaling

    def init(self) -> ScaleByControllerState:
        """State before the first step."""
        return self._scaling.init({})  # pyright: ignore[reportReturnType]

    def update(
        self, state: ScaleByControllerState, **extra_args: Any
    ) -> ScaleByControllerState:
        """State after a step; ``extra_args`` contains its ``value``."""
        _, state = self._scaling.update({}, state, **extra_args)  # pyright: ignore
        return state

    def __call__(self, state: ScaleByControllerState, **extra_args: Any) -> Array:
        """The learning rate in force: float32 of shape ``()``."""
        del extra_args
        return jnp.float32(self._learning_rate) * state.lr_scale


def as_schedule(
    learning_rate: float, controller: Controller, **kwargs: Any
) -> optax.schedules.StatefulSchedule:
    """A rule in the place of a learning-rate schedule.

    For optimizers that are built by ``optax.inject_hyperparams``, whose
    ``state.hyperparams["learning_rate"]`` then shows the learning rate in force. Optax
    computes hyperparameters before it updates their state, so a decision takes effect
    one step later than with :func:`optax_adaptive.scale_by_controller`.

    Args:
      learning_rate: The base learning rate, above 0.
      controller: The rule that scales it.
      **kwargs: Further arguments of :func:`optax_adaptive.scale_by_controller`.

    Returns:
      A learning rate for ``inject_hyperparams``; ``update`` then needs ``value``.

    Raises:
      ValueError: If ``learning_rate`` is not above 0, or where
        :func:`optax_adaptive.scale_by_controller` raises one.
      TypeError: Where :func:`optax_adaptive.scale_by_controller` raises one.

    Example:
      >>> import jax.numpy as jnp, optax
      >>> from optax_adaptive import controllers, integrations
      >>> schedule = integrations.as_schedule(
      ...     0.1, controllers.plateau(factor=0.5, patience=1), accumulation_size=1
      ... )
      >>> tx = optax.inject_hyperparams(optax.sgd)(learning_rate=schedule)
      >>> params = jnp.array(1.0)
      >>> state = tx.init(params)
      >>> for value in (1.0, 2.0, 2.0):
      ...     updates, state = tx.update(params, state, params, value=value)
      >>> print(f"{state.hyperparams['learning_rate']:.3f}")
      0.050
    """
    check_range("learning_rate", learning_rate, 0.0, open_low=True)
    return _ControlledSchedule(learning_rate, scale_by_controller(controller, **kwargs))
