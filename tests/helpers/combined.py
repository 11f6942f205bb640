"""Rules to combine: such as ask for something, hand something over, or end."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from optax_adaptive import (
    Controller,
    scale_by_controller,
)
from optax_adaptive._controller import Found, Request, nothing
from tests.contract.rules import with_measured
from tests.helpers.follow import follow
from tests.helpers.observations import observation


def scales_of(rule, values=None, accumulation_size=1):
    values = np.ones(6, np.float32) if values is None else np.float32(values)
    tx = scale_by_controller(rule, accumulation_size=accumulation_size, window=6)
    tx = with_measured(tx) if rule.needs else tx
    return np.asarray(follow(tx)(values)[0])


def asking(name="asking", needs=(), own_size=20, **fields):
    """A rule that holds, and asks for ``fields`` from its first decision on."""

    def update_fn(observation, state):
        return observation.log_scale, state | True

    def request_fn(state):
        asked = nothing()._replace(
            **{key: jnp.asarray(value) for key, value in fields.items()}
        )
        return jax.tree.map(
            lambda one, other: jnp.where(state, one, other), asked, nothing()
        )

    return Controller(
        lambda: jnp.zeros((), jnp.bool_),
        update_fn,
        request=request_fn,
        name=name,
        needs=needs,
        accumulation_size=own_size,
    )


def requests_of(rule, decisions):
    """What it asks for at first, and after each decision."""
    state = rule.init()
    asked = [rule.request(state)]
    for _ in range(decisions):
        _, state = rule.update(SHOWN, state)
        asked.append(rule.request(state))
    return asked


SHOWN = observation(
    6,
    step=9,
    history=np.ones(6),
    mask=np.ones(6),
    standard_error=np.ones(6),
    averaging_gap=1.0,
    has_averaging_gap=True,
)


def differs_from_nothing(asked):
    """Which fields ask for something."""
    pairs = zip(Request._fields, asked, nothing(), strict=True)
    return {name: one.item() for name, one, other in pairs if one != other}


WISHES = dict(
    probe=np.int32(2),
    restore=True,
    snapshot=True,
    keep_until=np.int32(9),
    half_life=np.float32(0.5),
    average_lags=True,
    accumulation_size=np.int32(7),
    skip_above=np.float32(3.0),
)


class Ending(NamedTuple):
    left: jax.Array
    is_done: jax.Array


def ending(decisions):
    """Probes, and at its end asks for a return; asks for a copy at each decision."""

    def update_fn(observation, state):
        return observation.log_scale, Ending(state.left - 1, state.left <= 1)

    def request_fn(state):
        return nothing()._replace(
            probe=1 - state.is_done.astype(jnp.int32),
            restore=state.is_done,
            accumulation_size=jnp.ones((), jnp.int32),
        )

    def init_fn():
        return Ending(jnp.array(decisions, jnp.int32), jnp.zeros((), jnp.bool_))

    return Controller(init_fn, update_fn, request=request_fn)


class Handing(NamedTuple):
    found: Found
    is_done: jax.Array


def handing(known):
    """A search that has found ``known`` at its first decision."""

    def update_fn(observation, state):
        return known.log_scale, state._replace(is_done=jnp.ones((), jnp.bool_))

    return Controller(lambda: Handing(known, jnp.zeros((), jnp.bool_)), update_fn)


def begun_with():
    """A rule that holds, and the list of what it was begun with."""
    seen = []
    nan = jnp.full((), -1.0, jnp.float32)
    none = Found(nan, nan, nan, jnp.zeros((), jnp.bool_))

    def update_fn(observation, state):
        jax.debug.callback(seen.append, state, ordered=True)
        return observation.log_scale, state

    def begin_fn(state, found):
        del state
        return found

    return Controller(lambda: none, update_fn, begin=begin_fn), seen
