"""What the common tests run over: every registered rule, with tiny windows.

Rules that need the wrappers are handed what those measure, by a model of it: so they
are asked alone, as all others are. ``test_wrapped.py`` has them as users compose them.
"""

import functools
import inspect
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from optax_adaptive import controllers, lr_scale, scale_by_controller
from optax_adaptive.controllers.maintain import MaintainSettings
from optax_adaptive.controllers.search import SearchSettings
from optax_adaptive.signals.window_statistics import as_metric
from optax_adaptive.transforms._measured import Measured
from tests.helpers.follow import follow
from tests.helpers.loud import loud
from tests.helpers.slow import slow_but

MIN_SCALE, MAX_SCALE = 1e-3, 1e3
SETTINGS = dict(accumulation_size=2, window=6, min_scale=MIN_SCALE, max_scale=MAX_SCALE)
STEPS = 47  # odd, so that the last window is open

# Of the two that are made of others, one is enough where time counts.
QUICK = [name for name in controllers.REGISTRY if name != "learned"]
every_rule = pytest.mark.parametrize("rule", slow_but(QUICK, controllers.REGISTRY))

# All stages of a search, and some decisions after it, in so few steps.
SEARCH = SearchSettings(
    calibration_steps=6,
    sized_steps=2,
    least_scale=MIN_SCALE,
    test_to=1e-3,
    trial=6,
)
BLOCKS = MaintainSettings(shortest_block=2)


class Done(NamedTuple):
    is_done: jax.Array


def learned_from_here():
    """Without its search, which is that of the others, and takes too long."""
    begun = controllers.constant()._replace(init=lambda: Done(jnp.ones((), jnp.bool_)))
    return controllers.then(begun, controllers.learned())


MAKE = controllers.REGISTRY | {
    "search": lambda: controllers.search(settings=SEARCH),
    "maintain": lambda: controllers.maintain(settings=BLOCKS),
    "tuned": lambda: controllers.tuned(
        search_settings=SEARCH, maintain_settings=BLOCKS
    ),
    "learned": learned_from_here,
}
# A NaN in their answers is seen: scale_by_controller by itself holds, in silence.
RULES = {name: lambda make=make: loud(make()) for name, make in MAKE.items()}
NEEDY = {name for name, make in RULES.items() if make().needs}


def with_measured(tx, has_gap=True):
    """What the wrappers would measure, of a model: gaps in the unit of the loss."""

    def update_fn(updates, state, params=None, *, value=None, **extra_args):
        loss = jnp.zeros((), jnp.float32) if value is None else as_metric(value)
        measured = Measured(
            averaging_gap=0.1 * loss,
            has_gap=jnp.array(has_gap),
            displacement=1e-3 * lr_scale(state),
            return_slope=-0.01 * loss,
            gradient_size=jnp.ones((), jnp.float32),
        )
        extra_args |= {"value": value, "measured": measured}
        return tx.update(updates, state, params, **extra_args)

    return optax.GradientTransformationExtraArgs(tx.init, update_fn)


def scaled(rule, has_gap=True, **kwargs):
    """The transformation of a rule, handed what it needs."""
    tx = scale_by_controller(rule, **SETTINGS | kwargs)
    return with_measured(tx, has_gap) if rule.needs else tx


@functools.cache
def scaling(rule, **kwargs):
    """The transformation of a registered rule, the same object at every call."""
    return scaled(RULES[rule](), **kwargs)


@functools.cache
def followed(rule, **kwargs):
    """A registered rule over a stream of values, compiled once a process."""
    if "has_gap" in kwargs and rule not in NEEDY:
        kwargs.pop("has_gap")  # those are not handed any
        return followed(rule, **kwargs)
    return follow(scaling(rule, **kwargs))


@functools.cache
def stepping(rule):
    """A jitted function of (state, value) -> state, which donates the state."""
    tx = scaling(rule)
    return jax.jit(
        lambda state, value: tx.update(jnp.ones(2), state, value=value)[1],
        donate_argnums=0,
    )


def tunable(rule):
    """Names and defaults of a rule's numeric hyperparameters."""
    parameters = inspect.signature(controllers.REGISTRY[rule]).parameters
    return {
        name: parameter.default
        for name, parameter in parameters.items()
        if type(parameter.default) in (int, float)
    }


def sgd_with(rule):
    return optax.chain(optax.sgd(0.1), scaling(rule))


def stream(seed=0):
    """A noisy descent, a plateau and a rise, float32 of shape (STEPS,)."""
    t = np.arange(STEPS)
    shape = np.maximum(3 - t / 8, 1) + np.maximum(t - 36, 0) / 4
    return np.float32(shape + np.random.default_rng(seed).normal(0, 0.05, STEPS))
