"""Checks of hyperparameters, applied only where they are concrete numbers."""

import math
from typing import Any

from jax.core import Tracer


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
    above = value > low if open_low else value >= low
    below = value < high if open_high else value <= high
    if not (above and below):  # NaN fails both
        left = "(" if open_low or low == -math.inf else "["
        right = ")" if open_high or high == math.inf else "]"
        raise ValueError(
            f"{name} must be in {left}{low}, {high}{right}, but it is {value!r}"
        )


def check_count(name: str, value: Any, low: int = 1) -> None:
    """Raises unless ``value`` is an integer of at least ``low``."""
    is_integer = not isinstance(value, bool) and (
        not is_concrete(value) or float(value).is_integer()
    )
    if not is_integer:
        raise ValueError(f"{name} must be an integer, but it is {value!r}")
    check_range(name, value, low)


def check_choice(name: str, value: Any, choices: tuple[str, ...]) -> None:
    """Raises ValueError unless ``value`` is one of ``choices``."""
    if value not in choices:
        raise ValueError(f"{name} must be one of {choices}, but it is {value!r}")
