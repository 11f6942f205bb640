"""Schedules, autotune and learned, as functions of peak rate and steps.

A schedule is run within averaging, which does not change the training: so one run gives
what it ends with and the average of that, the control that tells what averaging alone
is worth.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import optax

import optax_adaptive
from benchmark.studies.beyond_home.tasks.training import Training
from methods import rules
from methods.method import FRACTION, Method, Plan, averaged

WARMUP = 0.02  # of the steps
BASE_RATE = 1e-3  # of those that find the rate themselves
LAST, AVERAGED = 0, 1  # which parameters are evaluated
SHAPES: dict[str, Callable[[Any, int], optax.Schedule]] = {
    "cosine": optax.cosine_decay_schedule,  # to 0
    "linear": lambda peak, steps: optax.linear_schedule(peak, 0.0, steps),
    "constant": lambda peak, steps: optax.constant_schedule(peak),
}


class Entry(NamedTuple):
    """A column of the report: what is evaluated of the runs of a method."""

    method: str  # of METHODS
    of: int  # LAST or AVERAGED


METHODS = (
    *(f"{shape}{warmup}" for shape in SHAPES for warmup in ("", "_warmup")),
    "autotune",
    "autotune_anytime",
    "learned",
    "learned_anytime",
)
ENTRIES = {
    "cosine": Entry("cosine", LAST),
    "cosine, warm-up": Entry("cosine_warmup", LAST),
    "linear": Entry("linear", LAST),
    "linear, warm-up": Entry("linear_warmup", LAST),
    "constant, averaged": Entry("constant", AVERAGED),
    "constant, warm-up, averaged": Entry("constant_warmup", AVERAGED),
    "cosine, averaged": Entry("cosine", AVERAGED),
    "cosine, warm-up, averaged": Entry("cosine_warmup", AVERAGED),
    "autotune": Entry("autotune", AVERAGED),
    "autotune, no total_steps": Entry("autotune_anytime", AVERAGED),
    "learned": Entry("learned", AVERAGED),
    "learned, no total_steps": Entry("learned_anytime", AVERAGED),
}


# On seeds that did not choose: each at the rate that others chose for it.
HELD_OUT = (
    "cosine",
    "cosine, warm-up",
    "constant, warm-up, averaged",
    "autotune",
    "autotune, no total_steps",
    "learned",
    "learned, no total_steps",
)


def is_tuned(method: str) -> bool:
    """Whether its rate is; the others begin at ``BASE_RATE``."""
    return method not in rules.AUTOTUNE and method not in rules.LEARNED


def schedule(method: str, peak: Any, steps: int) -> optax.Schedule:
    """The schedule of a method.

    Args:
      method: A shape, or that with ``_warmup``.
      peak: The highest rate; may be traced.
      steps: Of the whole run.

    Returns:
      The rate by step; the first of a warm-up is not 0, as that step would be lost.
    """
    shape, _, warms_up = method.partition("_")
    warmup = round(WARMUP * steps) if warms_up else 0
    after = SHAPES[shape](peak, steps - warmup)
    if not warmup:
        return after

    def rate(step):
        rising = peak * (step + 1) / (warmup + 1)
        return jnp.where(step < warmup, rising, after(step - warmup))

    return rate


def build(training: Training, method: str, rate: Any, steps: int) -> Method:
    """A method whose parameters to evaluate are a pair: the last, and their average.

    Args:
      training: Of the study.
      method: One of ``METHODS``.
      rate: Peak or base rate; may be traced.
      steps: Of the whole run.

    Returns:
      The method, around what the training does not freeze.

    Raises:
      ValueError: If there is no such method.
    """
    if method not in METHODS:
        raise ValueError(f"there is no method {method!r}, but {', '.join(METHODS)}")
    if is_tuned(method):
        by_step = schedule(method, rate, steps)
        tx = optax.with_extra_args_support(training.optimizer(by_step))
        bare = Method(tx, lambda state, step: by_step(step))
        made = averaged(bare, fraction=FRACTION)
    else:
        # The form without momentum is for interpolation, which is not in this study.
        plan = Plan(training.optimizer, training.optimizer, rate, steps, 1)
        if method in rules.LEARNED:
            made = rules.named_rule(method, plan)
        else:
            made = rules.autotune(plan, *rules.AUTOTUNE[method])
    return evaluated_twice(training, made)


def evaluated_twice(training: Training, made: Method) -> Method:
    """``made`` around what the training does not freeze; evaluates last and average."""
    if training.labels is not None:
        # Around, and not inside: the scale of what is trained is autotune's own unit.
        groups: dict[Any, Any] = {
            "train": made.optimizer,
            "frozen": optax.set_to_zero(),
        }
        around = optax.partition(groups, training.labels)
        made = made._replace(optimizer=optax.with_extra_args_support(around))

    def pair(state, params):
        return params, optax_adaptive.eval_params(state, params)

    return made._replace(eval_params=pair)
