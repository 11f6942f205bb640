"""The way back to a copy: it arrives, and rules remember why it was taken."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from optax_adaptive import _meter
from optax_adaptive._controller import Array
from optax_adaptive._leaves import wide
from optax_adaptive._pack import overwrite, unpack
from optax_adaptive._scale import ScaleByControllerState

# What is added to params cannot lead back from inf. So larger updates are left out; by
# then the loss has overflowed, and an alarm is due.
LARGEST_UPDATE = 1e30
RETURNS = 4  # from params of 1e10 a return ends within their rounding, or at 0
NEAR = 1e-3  # of a leaf's largest entry


def bounded(update: Array, is_return: Array) -> Array:
    """The update, with 0 for each entry from which there would be no return.

    A return itself may be as large as it must be. Of masks of -inf it is NaN.
    """
    if not jnp.issubdtype(update.dtype, jnp.inexact):
        return update
    size = jnp.abs(update)
    finite = float(jnp.finfo(size.dtype).max)
    largest = jnp.where(is_return, finite, min(LARGEST_UPDATE, finite / 1000))
    is_kept = size <= largest.astype(size.dtype)  # NaN compares false
    return jnp.where(is_kept, update, jnp.zeros_like(update))


def is_away(returns_left: Array, copied_params: Any, params: Any) -> Array:
    """Whether a return to the copy has not arrived, and may be tried again, bool."""
    # Of functions that keep their identity, or eager calls would compile them anew.
    return lax.cond(returns_left > 0, _differ, _never, copied_params, params)


def _differ(copied_params: Any, params: Any) -> Array:
    is_other = jnp.zeros((), jnp.bool_)
    pairs = zip(jax.tree.leaves(params), jax.tree.leaves(copied_params), strict=True)
    for a, b in pairs:
        a, b = a.astype(wide(a.dtype)), b.astype(wide(b.dtype))
        # Most returns miss by a rounding or two, which is not worth a step. What is
        # not finite compares false.
        largest = jnp.where(jnp.isfinite(b), jnp.abs(b), 0.0).max(initial=0.0)
        missed = jnp.where(a == b, 0.0, jnp.abs(a - b))  # masks may be -inf
        is_other |= ~(missed.max(initial=0.0) <= NEAR * largest)
    return is_other


def _never(copied_params: Any, params: Any) -> Array:
    del copied_params, params
    return jnp.zeros((), jnp.bool_)


def left(returns_left: Array, is_away: Array, is_restored: Array) -> Array:
    """Returns left after this update, int32."""
    return jnp.where(is_away, returns_left - 1, jnp.where(is_restored, RETURNS, 0))


def keep_rules(restored: Any, current: Any) -> Any:
    """The restored inner state, with the current memory of every controller in it.

    So the next attempt is another one.
    """
    return jax.tree.map(
        lambda old, new: new if is_rule(old) else old,
        *(restored, current),
        is_leaf=is_rule,
    )


def rest_rules(inner_state: Any, is_resting: Array) -> Any:
    """Every controller in ``inner_state`` at factor 1, with no value in its window."""

    def rest(rule):
        rule = _change_meter(rule, _meter.open_window, is_resting)
        return rule._replace(lr_scale=jnp.where(is_resting, 1.0, rule.lr_scale))

    return _map_rules(rest, inner_state)


def trial(inner_state: Any) -> Array:
    """Sum of the trials that controllers in ``inner_state`` are in, int32; 0 for none.

    It changes with each of them.
    """
    number = jnp.zeros((), jnp.int32)
    for node in jax.tree.leaves(inner_state, is_leaf=is_rule):
        if is_rule(node):
            number += unpack(_meter.LAYOUT, node.controller_memory).trial
    return number


def tell_rules(inner_state: Any, is_blown_up: Array) -> Any:
    """Every controller in ``inner_state`` is asked next, with a window of value inf."""
    return _map_rules(
        lambda rule: _change_meter(rule, _meter.blow_up, is_blown_up), inner_state
    )


def _map_rules(change: Callable, inner_state: Any) -> Any:
    return jax.tree.map(
        lambda node: change(node) if is_rule(node) else node,
        inner_state,
        is_leaf=is_rule,
    )


def _change_meter(
    rule: ScaleByControllerState, change: Callable, condition: Array
) -> ScaleByControllerState:
    meter = unpack(_meter.LAYOUT, rule.controller_memory)
    words = overwrite(rule.controller_memory, change(meter))
    words = jnp.where(condition, words, rule.controller_memory)
    return rule._replace(controller_memory=words)


def is_rule(node: Any) -> bool:
    """Whether ``node`` is the state of a controller."""
    return isinstance(node, ScaleByControllerState)
