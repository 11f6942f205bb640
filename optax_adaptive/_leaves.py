"""What is asked of leaves of any kind: their wide dtype, and what they lie in."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def wide(dtype: Any) -> Any:
    """The dtype to compute in: at least float32, and float32 for what is no number."""
    is_inexact = jnp.issubdtype(dtype, jnp.inexact)
    return np.promote_types(dtype, np.float32) if is_inexact else np.dtype(np.float32)


def bare(state: Any) -> Any:
    """A flat state without what wraps its arrays, as ``nnx.Optimizer`` does."""
    return type(state)(*jax.tree.leaves(state))


def over_leading_axes(function: Callable, count: int) -> Callable:
    """Maps ``function`` over leading axes, that pmap or vmap gave to a state."""
    for _ in range(count):
        function = jax.vmap(function)
    return function
