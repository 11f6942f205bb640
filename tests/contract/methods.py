"""Whole methods, as users compose them: autotune, and every rule in the wrappers."""

import functools

import optax
import pytest

from optax_adaptive import (
    autotune,
    controllers,
    scale_by_controller,
    with_averaging,
    with_rollback,
)
from tests.helpers.loud import loud
from tests.helpers.slow import slow_but

MIN_SCALE, MAX_SCALE = 1e-6, 1e6
STEPS = 1000


def wrapped(rule):
    scaling = scale_by_controller(
        loud(controllers.REGISTRY[rule]()), min_scale=MIN_SCALE, max_scale=MAX_SCALE
    )
    return with_averaging(with_rollback(optax.chain(optax.adam(0.03), scaling)))


AUTOTUNE = {
    "autotune": lambda: autotune(optax.adam(0.03)),
    "autotune, total_steps": lambda: autotune(optax.adam(0.03), total_steps=STEPS),
    "autotune, interpolate": lambda: autotune(
        optax.adam(0.03, b1=0.0), total_steps=STEPS, interpolate=True
    ),
    "autotune, sgd": lambda: autotune(optax.sgd(0.03), total_steps=STEPS),
}
RULES = {name: functools.partial(wrapped, name) for name in controllers.REGISTRY}
METHODS = {**AUTOTUNE, **RULES}
ALONE = {"with_rollback": lambda: with_rollback(optax.adam(0.03))}
# Each compiles for a second or two.
FAST = ("autotune, total_steps", "learned")


def of_methods(methods):
    """Parametrizes over them; those that are not FAST are slow."""
    return pytest.mark.parametrize("method", slow_but(FAST, methods))
