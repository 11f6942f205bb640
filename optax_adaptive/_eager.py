"""Eager calls of a transformation's update, compiled as one program."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.core import Tracer


def compiled(update_fn: Callable[..., Any]) -> Callable[..., Any]:
    """``update_fn``, jitted where it is not traced already.

    An eager call would compile each operation on each shape by itself, and conditionals
    and loops anew at every call.
    """
    jitted = jax.jit(update_fn)

    @functools.wraps(update_fn)
    def update(updates, state, params=None, **extra_args):
        leaves = jax.tree.leaves((updates, state, params, extra_args))
        is_eager = all(map(_is_concrete, leaves))  # functions, as value_fn, are not
        function = jitted if is_eager else update_fn
        return function(updates, state, params, **extra_args)

    return update


def _is_concrete(leaf: Any) -> bool:
    if isinstance(leaf, Tracer):
        return False
    return isinstance(leaf, (jax.Array, np.ndarray, np.generic, int, float, complex))
