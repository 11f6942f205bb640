"""apply_gradients: a step of Flax linen's TrainState that hands the loss on."""

import functools
import inspect
from collections.abc import Callable
from typing import Any

import optax


def apply_gradients(train_state: Any, *, grads: Any, value: Any, **changes: Any) -> Any:
    """Like ``train_state.apply_gradients``, but hands the loss to the transformation.

    ``flax.training.train_state.TrainState.apply_gradients`` gives its keywords to
    ``replace`` and none to ``tx.update``, so that a ``value`` never arrives.

    Args:
      train_state: Anything with ``tx``, ``replace`` and ``apply_gradients``, as a linen
        ``TrainState`` has.
      grads: Gradients, with the structure of ``train_state.params``.
      value: The scalar loss at ``train_state.params``.
      **changes: Further fields to replace, such as batch statistics.

    Returns:
      The next train state.

    Example:
      >>> import jax, jax.numpy as jnp, optax, optax_adaptive
      >>> from flax.training.train_state import TrainState
      >>> from optax_adaptive import controllers, integrations
      >>> scaling = optax_adaptive.scale_by_controller(controllers.trend())
      >>> state = TrainState.create(
      ...     apply_fn=None,
      ...     params={"w": jnp.ones(())},
      ...     tx=optax.chain(optax.sgd(0.5), scaling),
      ... )
      >>> loss, grads = jax.value_and_grad(lambda p: p["w"] ** 2)(state.params)
      >>> state = integrations.apply_gradients(state, grads=grads, value=loss)
      >>> print(state.params["w"])
      0.0
    """
    tx = train_state.tx
    update = tx.update
    if _takes_value(update):
        update = functools.partial(update, value=value)
    with_value = optax.GradientTransformation(tx.init, update)
    replaced = train_state.replace(tx=with_value)
    return replaced.apply_gradients(grads=grads, **changes).replace(tx=tx)


def _takes_value(update: Callable) -> bool:
    """By its signature, since the type of ``optax.MultiSteps`` does not say so."""
    parameters = inspect.signature(update).parameters
    return "value" in parameters or any(
        parameter.kind == parameter.VAR_KEYWORD for parameter in parameters.values()
    )
