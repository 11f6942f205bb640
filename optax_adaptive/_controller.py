"""The contract that every learning-rate rule obeys."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

Array = jax.Array
ControllerState = Any  # A pytree of arrays with fixed shapes and dtypes.


class Observation(NamedTuple):
    """What a rule sees when it decides, once a window of metric values.

    Smaller is always better here: with ``mode="max"`` the metric arrives negated.
    A window without a single finite value (a blow-up) arrives as ``value = inf``; it
    never enters ``history``, whose entries are finite throughout.
    """

    step: Array  # shape=(), dtype=int32: optimizer steps so far
    value: Array  # shape=(), dtype=float32: newest window mean
    history: Array  # shape=(n,), dtype=float32: oldest first, zero-padded on the left
    mask: Array  # shape=(n,), dtype=bool: which entries of history are real
    standard_error: Array  # shape=(n,), dtype=float32: of each window mean
    validation: Array  # shape=(), dtype=float32: newest value given to observe()
    is_validated: Array  # shape=(), dtype=bool: is it new since the last decision?
    log_scale: Array  # shape=(), dtype=float32: log of the factor in force


class Controller(NamedTuple):
    """A learning-rate rule: a pair of pure functions, like an optax transformation.

    A rule never sees parameters, gradients, the clock or the disk. ``update`` returns
    the *new* log factor, absolute and not additive, so that a rule which holds returns
    ``observation.log_scale``.

    Attributes:
      init: Returns the first state: a pytree of arrays of fixed shape and dtype.
      update: Maps an :class:`Observation` and a state to the new log factor, float32
        of shape ``()``, and the new state.
      initial_log_scale: Log of the factor in force before the first decision. A rule
        that searches upwards starts far below 0.
      is_trial: Maps the state to whether all that the rule does is still a trial, bool
        of shape ``()``; None where it tries nothing. :func:`with_rollback` around it
        keeps the parameters from before a trial, and goes back to them when it ends:
        the rule keeps what it has learned, and the parameters are spared it.
    """

    init: Callable[[], ControllerState]
    update: Callable[[Observation, ControllerState], tuple[Array, ControllerState]]
    initial_log_scale: float | Array = 0.0
    is_trial: Callable[[ControllerState], Array] | None = None


def is_trial(controller: Controller, state: ControllerState) -> Array:
    """Whether ``controller`` is in a trial, bool of shape ()."""
    if controller.is_trial is None:
        return jnp.zeros((), jnp.bool_)
    return controller.is_trial(state)
