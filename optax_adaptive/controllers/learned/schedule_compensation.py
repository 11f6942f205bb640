"""What shrinks the updates, given back: so that a rule's rate is its own.

A rule sees its factor, and not what else there is in the chain: around a schedule it
would anneal what is annealed already. What a schedule does, it does to the size of the
updates, and of that to their *largest entry*. Their mean would say less: Adam's becomes
smaller by itself while its gradients turn to noise, to sqrt((1 - b1) / (1 + b1)) of the
rate, a quarter, but the largest of thousands stays near the rate. SGD's fall with the
gradients, as those of a loss without noise do: what is held then is the length of a
step (Nesterov, 1984).
"""

import math
from typing import NamedTuple

import jax.numpy as jnp

from optax_adaptive._controller import (
    Array,
    Controller,
    ControllerState,
    Found,
    Observation,
)
from optax_adaptive.state.trees import select

FIRST = 20  # windows after which the average is what later ones are compared with
NEWEST = 0.1  # weight of the newest window in it
# Towards the end of a schedule the updates vanish: that is left to it. And where it
# begins anew, this is by how much the first ones are too large.
MOST = math.log(20.0)


class Shrinkage(NamedTuple):
    """An average of the log size of the updates, since the search."""

    windows: Array  # shape=(), dtype=int32: in which they had a size
    first: Array  # shape=(), dtype=float32: as it was after the first windows
    newest: Array  # shape=(), dtype=float32: over about ten windows


class OffsetState(NamedTuple):
    """State of a rule within :func:`offset`."""

    rule_state: ControllerState
    shrinkage: Shrinkage


def first_shrinkage() -> Shrinkage:
    """Before the first window."""
    zero = jnp.zeros((), jnp.float32)
    return Shrinkage(windows=jnp.zeros((), jnp.int32), first=zero, newest=zero)


def add(shrinkage: Shrinkage, update_size: Array) -> Shrinkage:
    """Takes in a window; updates of size 0 say nothing."""
    is_measured = update_size > 0.0
    log_size = jnp.log(jnp.where(is_measured, update_size, 1.0))
    windows = shrinkage.windows + 1
    weight = jnp.maximum(1.0 / windows.astype(jnp.float32), NEWEST)
    newest = shrinkage.newest + weight * (log_size - shrinkage.newest)
    first = jnp.where(windows <= FIRST, newest, shrinkage.first)
    added = Shrinkage(windows=windows, first=first, newest=newest)
    return select(is_measured, added, shrinkage)


def log_factor(shrinkage: Shrinkage) -> Array:
    """Log of the newest size over the first, float32, at most 0."""
    return jnp.clip(shrinkage.newest - shrinkage.first, -MOST, 0.0)


def offset(rule: Controller) -> Controller:
    """The rule, as if nothing had shrunk the updates since its search."""

    def update_fn(observation: Observation, state: OffsetState):
        # The rate as the rule has drawn it, and then what the factor must be for it.
        log_rate = observation.log_scale + log_factor(state.shrinkage)
        counts = jnp.isfinite(observation.value)
        size = jnp.where(counts, observation.update_size, 0.0)
        shrinkage = add(state.shrinkage, size)
        log_rate, rule_state = rule.update(
            observation._replace(log_scale=log_rate), state.rule_state
        )
        return log_rate - log_factor(shrinkage), OffsetState(rule_state, shrinkage)

    def begin_fn(state: OffsetState, found: Found) -> OffsetState:
        return state._replace(rule_state=rule.begin(state.rule_state, found))

    return rule._replace(
        init=lambda: OffsetState(rule.init(), first_shrinkage()),
        update=update_fn,
        request=lambda state: rule.request(state.rule_state),
        begin=begin_fn,
    )
