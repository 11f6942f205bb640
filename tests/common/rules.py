"""What the common tests run over: every registered rule, with tiny windows."""

import functools
import inspect

import numpy as np
import optax
import pytest

from optax_adaptive import controllers, scale_by_controller
from tests.follow import follow

MIN_SCALE, MAX_SCALE = 1e-3, 1e3
SETTINGS = dict(accumulation_size=2, window=6, min_scale=MIN_SCALE, max_scale=MAX_SCALE)
STEPS = 48

every_rule = pytest.mark.parametrize("rule", controllers.REGISTRY)


@functools.cache
def scaling(rule, **kwargs):
    """The transformation of a registered rule, the same object at every call."""
    return scale_by_controller(controllers.REGISTRY[rule](), **SETTINGS | kwargs)


@functools.cache
def followed(rule, **kwargs):
    """A registered rule over a stream of values, compiled once a process."""
    return follow(scaling(rule, **kwargs))


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
