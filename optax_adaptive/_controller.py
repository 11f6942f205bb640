"""The contract that every learning-rate rule obeys."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

Array = jax.Array
ControllerState = Any  # A pytree of arrays with fixed shapes and dtypes.
ROUNDING = 1e-4  # of a log factor that has been through exp and log


class Observation(NamedTuple):
    """What a rule sees when it decides, once a window of metric values.

    Smaller is always better here: with ``mode="max"`` the metric arrives negated.
    A window without a single finite value (a blow-up) arrives as ``value = inf``; it
    never enters ``history``, whose entries are finite throughout.

    ``update_size`` is the size of the largest entry of the update that this decision is
    for (of one leaf), without the factor: what the optimizer, and a schedule in it,
    make of the rate.

    ``noise_cost`` is what the noise in the newest parameters costs: to first order, the
    loss above that of their average. It is measured where :func:`with_averaging` or
    :func:`autotune` is around, and the metric is the loss itself. With interpolation it
    is the geometric mean of that of the point which the optimizer moves, and of params.
    """

    step: Array  # shape=(), dtype=int32: optimizer steps so far
    value: Array  # shape=(), dtype=float32: newest window mean
    history: Array  # shape=(n,), dtype=float32: oldest first, zero-padded on the left
    mask: Array  # shape=(n,), dtype=bool: which entries of history are real
    standard_error: Array  # shape=(n,), dtype=float32: of each window mean
    validation: Array  # shape=(), dtype=float32: newest value given to observe()
    is_validated: Array  # shape=(), dtype=bool: is it new since the last decision?
    log_scale: Array  # shape=(), dtype=float32: log of the factor in force
    update_size: Array  # shape=(), dtype=float32: largest |entry|; 0 if unknown
    noise_cost: Array  # shape=(), dtype=float32: loss above that of the average; or 0
    has_noise_cost: Array  # shape=(), dtype=bool: was it measured in this window?


def no_trial(state: ControllerState) -> Array:
    """The trial of a rule that tries nothing."""
    del state
    return jnp.zeros((), jnp.int32)


def keep_state(state: ControllerState, log_scale: Array) -> ControllerState:
    """How a rule goes on to which ``observation.log_scale`` says all of the factor."""
    del log_scale
    return state


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
      trial: Maps the state to the number of the trial that the rule is in, int32 of
        shape ``()``, 0 for none. :func:`with_rollback` around it keeps the parameters
        from before its trials, and goes back to them at the end of each: the rule keeps
        what it has learned, and the parameters are spared it.
      accumulation_size: Values a window that it asks for, where the user names none.
      begin: Maps the first state, and the log of a factor that is not the rule's own,
        to the state that goes on from there. It is called where another factor is in
        force when the rule is first asked: after the search of :func:`autotune`, or
        after the first rule of :func:`then`. To most ``observation.log_scale`` says it.
    """

    init: Callable[[], ControllerState]
    update: Callable[[Observation, ControllerState], tuple[Array, ControllerState]]
    initial_log_scale: float | Array = 0.0
    trial: Callable[[ControllerState], Array] = no_trial
    accumulation_size: int = 20
    begin: Callable[[ControllerState, Array], ControllerState] = keep_state
