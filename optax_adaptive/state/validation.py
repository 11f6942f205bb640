"""Checks of hyperparameters, applied only where they are concrete numbers."""

import math
from typing import Any

import jax
import numpy as np
import optax
from jax.core import Tracer

from optax_adaptive._controller import Controller

_LARGEST_COUNT = np.iinfo(np.int32).max  # steps are counted so


def is_concrete(value: Any) -> bool:
    """Whether ``value`` can be compared now: not a tracer, as under vmap or jit."""
    return not isinstance(value, Tracer)


def check_range(
    name: str,
    value: Any,
    low: Any = -math.inf,
    high: Any = math.inf,
    *,
    open_low: bool = False,
    open_high: bool = False,
) -> None:
    """Raises ValueError, naming argument, value and range, if ``value`` is outside."""
    if not is_concrete(value):
        return
    if not _is_number(value):
        raise ValueError(f"{name} must be one real number, but it is {value!r}")
    above = value > low if open_low else value >= low
    below = value < high if open_high else value <= high
    if not (above and below):  # NaN fails both
        left = "(" if open_low or low == -math.inf else "["
        right = ")" if open_high or high == math.inf else "]"
        raise ValueError(
            f"{name} must be in {left}{low}, {high}{right}, but it is {value!r}"
        )


def _is_number(value: Any) -> bool:
    """Whether ``value`` is one real number, of any type."""
    array = np.asarray(value)
    return not array.ndim and array.dtype.kind in "iufV"  # V: bfloat16 and its like


def check_real(name: str, value: Any) -> None:
    """Raises TypeError unless ``value``, traced or not, is of real numbers."""
    if isinstance(value, (tuple, dict)):
        raise TypeError(
            f"`{name}` must be one number, but it is a {type(value).__name__}; of "
            "(loss, aux) pass the loss"
        )
    dtype = value.dtype if hasattr(value, "dtype") else np.asarray(value).dtype
    if dtype.kind not in "biufV":
        raise TypeError(f"`{name}` must be real, but it is {value!r}")


def check_count(name: str, value: Any, low: int = 1) -> None:
    """Raises unless ``value`` is an integer of at least ``low``."""
    if not is_concrete(value):
        return
    if not (_is_number(value) and float(value).is_integer()):
        raise ValueError(f"{name} must be an integer, but it is {value!r}")
    check_range(name, value, low)
    if value > _LARGEST_COUNT:
        raise ValueError(f"{name} must be below 2**31, but it is {value!r}")


def check_choice(name: str, value: Any, choices: tuple[str, ...]) -> None:
    """Raises ValueError unless ``value`` is one of ``choices``."""
    if value not in choices:
        raise ValueError(f"{name} must be one of {choices}, but it is {value!r}")


def check_array(name: str, value: Any, shape: tuple[int, ...]) -> None:
    """Raises ValueError unless ``value`` has this shape, and is finite."""
    if np.shape(value) != shape:
        raise ValueError(
            f"{name} must have the shape {shape}, but it has {np.shape(value)}"
        )
    if is_concrete(value) and not np.all(np.isfinite(value)):
        raise ValueError(f"{name} must be finite, but it is {value}")


def check_flag(name: str, value: Any) -> None:
    """Raises ValueError unless ``value`` is True or False."""
    if not isinstance(value, (bool, np.bool_)):
        raise ValueError(f"{name} must be True or False, but it is {value!r}")


def check_optimizer(optimizer: Any) -> None:
    """Raises TypeError unless ``optimizer`` is a gradient transformation."""
    if not isinstance(optimizer, optax.GradientTransformation):
        hint = "call its factory first, as in optax.adam(1e-3)"
        if isinstance(optimizer, optax.MultiSteps):
            hint = "put optax.MultiSteps around, not inside"
        if isinstance(optimizer, Controller):
            hint = "chain it behind an optimizer, by scale_by_controller(rule)"
        raise TypeError(
            f"optimizer must be a gradient transformation, but it is {optimizer!r}; "
            + hint
        )


def check_params(updates: Any, params: Any) -> None:
    """Raises ValueError unless there are params, of as many leaves as ``updates``."""
    if params is None:
        raise ValueError("update() needs the argument `params`")
    sizes = [len(jax.tree.leaves(tree)) for tree in (updates, params)]
    if sizes[0] != sizes[1]:
        raise ValueError(
            f"updates and params must have the same leaves, but those have {sizes[0]} "
            f"and these {sizes[1]}: give what is not trained no leaf in either, by "
            "optax.partition, or in Equinox by eqx.filter(model, eqx.is_inexact_array)"
        )


def check_controller(name: str, value: Any) -> None:
    """Raises TypeError unless ``value`` is a rule."""
    if not isinstance(value, Controller):
        raise TypeError(
            f"{name} must be a Controller, but it is {value!r}; call the rule's "
            "factory first, as in controllers.plateau()"
        )


def check_answer(name: str, answer: Any) -> tuple[Any, Any]:
    """What a rule's update returned; raises unless it is a log factor and a state."""
    if type(answer) is not tuple or len(answer) != 2:
        raise TypeError(
            f"the update of the rule {name!r} must return two things, the new log "
            f"factor and its state, but it returned {answer!r}"
        )
    log_scale, state = answer
    if log_scale is None or np.shape(log_scale):
        raise TypeError(
            f"the update of the rule {name!r} must return the new log factor, of shape "
            f"(), and its state, but the first is {log_scale!r}"
        )
    if is_concrete(log_scale) and not np.isfinite(log_scale):
        raise ValueError(
            f"the update of the rule {name!r} must return a finite log factor, but it "
            f"is {log_scale}"
        )
    return log_scale, state
