"""apply_gradients: a step of Flax linen's TrainState that hands the loss on."""

import functools
import inspect
from collections.abc import Callable
from typing import Any

import optax


def apply_gradients(train_state: Any, *, grads: Any, value: Any, **changes: Any) -> Any:
    """As ``train_state.apply_gradients``, with the loss for the transformation.

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
      A training step then reads::

        loss, grads = jax.value_and_grad(loss_fn)(state.params)
        state = apply_gradients(state, grads=grads, value=loss)
    """
    tx = train_state.tx
    update = tx.update
    if _takes_value(update):
        update = functools.partial(update, value=value)
    told = optax.GradientTransformation(tx.init, update)
    following = train_state.replace(tx=told).apply_gradients(grads=grads, **changes)
    return following.replace(tx=tx)


def _takes_value(update: Callable) -> bool:
    """By its signature, since the type of ``optax.MultiSteps`` does not tell."""
    parameters = inspect.signature(update).parameters
    kinds = {parameter.kind for parameter in parameters.values()}
    return "value" in parameters or inspect.Parameter.VAR_KEYWORD in kinds
