"""Schedule compensation: undoes what a schedule does to the size of the updates.

A rule sees its own factor, and nothing else in the chain: with a schedule, it would
anneal what is annealed already. A schedule changes the size of the updates, which is
best measured by their *largest entry*. Their mean would be worse: Adam's falls by
itself while its gradients turn to noise, to sqrt((1 - b1) / (1 + b1)) of the learning
rate, a quarter, but the largest of thousands stays near the learning rate. The updates
of SGD shrink with the gradients, as those of a loss without noise do: what is kept then
is the length of a step (Nesterov, 1984).
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
from optax_adaptive.controllers.learned import ema

FIRST = 20  # windows after which the average is what later ones are compared with
NEWEST = 0.1  # weight of the newest window in it
# Towards the end of a schedule the updates vanish, so compensation has this limit. If a
# schedule restarts, its first updates are too large by up to as much.
MOST = math.log(20.0)


class UpdateSizes(NamedTuple):
    """The log size of the updates, since the search."""

    first: Array  # shape=(), dtype=float32: average over the first windows
    newest: ema.Ema  # over about ten windows


class CompensatedState(NamedTuple):
    """State of a rule within :func:`compensated`."""

    rule_state: ControllerState
    sizes: UpdateSizes


def first_sizes() -> UpdateSizes:
    """Before the first window."""
    return UpdateSizes(first=jnp.zeros((), jnp.float32), newest=ema.first_ema())


def add(sizes: UpdateSizes, update_size: Array) -> UpdateSizes:
    """The sizes with one window more; a size of 0 changes nothing."""
    is_measured = update_size > 0.0
    log_size = jnp.log(jnp.where(is_measured, update_size, 1.0))
    newest = ema.add_as_mean(sizes.newest, log_size, NEWEST, is_measured)
    first = jnp.where(newest.count <= FIRST, newest.mean, sizes.first)
    return UpdateSizes(first, newest)


def log_decrease(sizes: UpdateSizes) -> Array:
    """Log of the newest size over the first, float32, in [-MOST, 0]."""
    return jnp.clip(sizes.newest.mean - sizes.first, -MOST, 0.0)


def compensated(rule: Controller) -> Controller:
    """The rule, as if nothing had shrunk the updates since its search."""

    def update_fn(observation: Observation, state: CompensatedState):
        # The rule sees the log scale that it has chosen, without the compensation.
        log_scale = observation.log_scale + log_decrease(state.sizes)
        is_finite = jnp.isfinite(observation.value)
        size = jnp.where(is_finite, observation.update_size, 0.0)
        sizes = add(state.sizes, size)
        log_scale, rule_state = rule.update(
            observation._replace(log_scale=log_scale), state.rule_state
        )
        return log_scale - log_decrease(sizes), CompensatedState(rule_state, sizes)

    def begin_fn(state: CompensatedState, found: Found) -> CompensatedState:
        return state._replace(rule_state=rule.begin(state.rule_state, found))

    return rule._replace(
        init=lambda: CompensatedState(rule.init(), first_sizes()),
        update=update_fn,
        request=lambda state: rule.request(state.rule_state),
        begin=begin_fn,
    )
