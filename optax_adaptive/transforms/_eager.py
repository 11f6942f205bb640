"""Eager calls of a transformation's update, compiled as one program."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from optax_adaptive.signals.window_statistics import as_metric


def compiled(update_fn: Callable[..., Any]) -> Callable[..., Any]:
    """``update_fn``, jitted where it is not traced already.

    An eager call would compile each operation on each shape by itself, and conditionals
    and loops anew at every call. A call with keywords that are not arrays stays eager:
    functions and Python's numbers may have to be concrete.
    """
    jitted = jax.jit(update_fn)

    @functools.wraps(update_fn)
    def update(updates, state, params=None, **extra_args):
        value = extra_args.get("value")
        if value is not None:
            metric = as_metric(value)  # or an error
            # What is a float already, an optimizer inside may want as precise.
            extra_args["value"] = value if _is_float(value) else metric
        leaves = jax.tree.leaves((updates, state, params, extra_args))
        function = jitted if all(map(_is_concrete, leaves)) else update_fn
        return function(updates, state, params, **extra_args)

    return update


def _is_float(value: Any) -> bool:
    is_array = isinstance(value, (jax.Array, np.ndarray, np.generic))
    return is_array and jnp.issubdtype(value.dtype, jnp.floating)


def _is_concrete(leaf: Any) -> bool:
    is_array = isinstance(leaf, (jax.Array, np.ndarray, np.generic))
    return is_array and not isinstance(leaf, Tracer)
