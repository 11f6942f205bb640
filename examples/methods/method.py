"""What a method is: an optimizer and how to read it; and the pieces of several."""

from collections.abc import Callable
from typing import Any, NamedTuple

import optax

import optax_adaptive
from methods.optimizers import Make
from methods.schedules import SCHEDULES

# Of the elapsed steps, the half-life of averages, as autotune has it.
FRACTION = 0.1


class Method(NamedTuple):
    """An optimizer and how to read it."""

    optimizer: optax.GradientTransformationExtraArgs
    # The nominal rate in force, from state and step; nan where there is none.
    learning_rate: Callable[[Any, Any], Any]
    # The parameters to evaluate, from state and parameters.
    eval_params: Callable[[Any, Any], Any] = lambda state, params: params
    averages: bool = False  # Do eval_params differ from params?
    rolls_back: bool = False  # May an update return to a copy?
    decides: bool = False  # Does the rate follow the loss, in steps worth a log line?
    observe: Callable[[Any, Any], Any] = lambda state, loss: state


class Plan(NamedTuple):
    """What a method may depend on."""

    base: Make
    bare: Make  # base without momentum
    learning_rate: Any  # a float, or traced
    steps: int
    steps_per_epoch: int
    seed: Any = 0  # of the learners' exploration


def make_schedule(name: str, plan: Plan) -> optax.Schedule:
    """One of ``SCHEDULES``, as long as the run."""
    return SCHEDULES[name](plan.learning_rate, plan.steps, plan.steps_per_epoch)


def scheduled(name: str, plan: Plan) -> Method:
    """The base optimizer under a schedule."""
    schedule = make_schedule(name, plan)
    return Method(
        optax.with_extra_args_support(plan.base(schedule)),
        lambda state, step: schedule(step),
    )


def controlled(
    plan: Plan, rule: optax_adaptive.Controller, anchor: str = "fixed", **options: Any
) -> Method:
    """A rule after the base optimizer, which follows the schedule ``anchor``."""
    schedule = make_schedule(anchor, plan)
    rate = plan.learning_rate if anchor == "fixed" else schedule
    scaling = optax_adaptive.scale_by_controller(rule, **options)
    return Method(
        optax.chain(plan.base(rate), scaling),
        lambda state, step: schedule(step) * optax_adaptive.lr_scale(state),
        decides=True,
    )


def averaged(method: Method, **options: Any) -> Method:
    """Within averaging, by which a rule sees the averaging gap."""
    return method._replace(
        optimizer=optax_adaptive.with_averaging(method.optimizer, **options),
        eval_params=optax_adaptive.eval_params,
        averages=True,
    )


def rolling_back(method: Method, backoff: float = 0.5, **options: Any) -> Method:
    """Within rollback, and that within averaging with these options."""
    inside = optax_adaptive.with_rollback(method.optimizer, backoff=backoff)
    return averaged(method._replace(optimizer=inside, rolls_back=True), **options)
