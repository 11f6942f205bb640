"""Every way to set the learning rate that ``--method`` offers.

Schedules, the library's controllers, and published peers, each as one ``Method``: an
optimizer and how to read it. To add one, add a line to the table it belongs to.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import optax
from optax import contrib

import optax_adaptive
from common.hypergradient import hypergradient
from optax_adaptive import controllers

OPTIMIZERS: dict[str, Callable[[Any], optax.GradientTransformation]] = {
    "adam": optax.adam,
    "adamw": optax.adamw,
    "nadamw": optax.nadamw,
    "lion": optax.lion,
    "momentum": lambda learning_rate: optax.sgd(learning_rate, 0.9),
    "sgd": optax.sgd,
}


class Method(NamedTuple):
    """An optimizer and how to read it."""

    optimizer: optax.GradientTransformationExtraArgs
    # The nominal rate in force, from state and step; nan where there is none.
    learning_rate: Callable[[Any, Any], Any]
    # The parameters to evaluate, from state and parameters.
    eval_params: Callable[[Any, Any], Any] = lambda state, params: params
    averages: bool = False  # Do eval_params differ from params?
    decides: bool = False  # Does the rate follow the loss, in steps worth a log line?
    observe: Callable[[Any, Any], Any] = lambda state, loss: state


class Plan(NamedTuple):
    """What a method may depend on."""

    base: Callable[[Any], optax.GradientTransformation]
    learning_rate: float
    steps: int
    steps_per_epoch: int


def _step(plan: Plan) -> optax.Schedule:
    boundaries = range(10 * plan.steps_per_epoch, plan.steps, 10 * plan.steps_per_epoch)
    return optax.piecewise_constant_schedule(
        plan.learning_rate, dict.fromkeys(boundaries, 0.1)
    )


def _cosine(plan: Plan) -> optax.Schedule:
    peak = plan.learning_rate
    return optax.cosine_decay_schedule(peak, plan.steps, alpha=min(1e-6 / peak, 1))


def _warmup_linear(plan: Plan) -> optax.Schedule:
    warmup = max(plan.steps // 10, 1)
    rise = optax.linear_schedule(0, plan.learning_rate, warmup)
    fall = optax.linear_schedule(plan.learning_rate, 0, max(plan.steps - warmup, 1))
    return optax.join_schedules([rise, fall], [warmup])


def _wsd(plan: Plan) -> optax.Schedule:
    """Warmup over 5%, stable, decay by 1 - sqrt over the last 20%."""
    warmup, decay = max(plan.steps // 20, 1), max(plan.steps // 5, 1)
    return optax.join_schedules(
        [
            optax.linear_schedule(0, plan.learning_rate, warmup),
            optax.constant_schedule(plan.learning_rate),
            lambda step: (
                plan.learning_rate * (1 - jnp.sqrt(jnp.clip(step / decay, 0, 1)))
            ),
        ],
        [warmup, plan.steps - decay],
    )


def _one_cycle(plan: Plan) -> optax.Schedule:
    return optax.cosine_onecycle_schedule(max(plan.steps, 4), plan.learning_rate)


SCHEDULES: dict[str, Callable[[Plan], optax.Schedule]] = {
    "fixed": lambda plan: optax.constant_schedule(plan.learning_rate),
    "step": _step,
    "cosine": _cosine,
    "warmup_linear": _warmup_linear,
    "wsd": _wsd,
    "one_cycle": _one_cycle,
}


def _schedule(name: str, plan: Plan) -> Method:
    schedule = SCHEDULES[name](plan)
    return Method(
        optax.with_extra_args_support(plan.base(schedule)),
        lambda state, step: schedule(step),
    )


def _controller(name: str, plan: Plan) -> Method:
    scale = optax_adaptive.scale_by_controller(controllers.REGISTRY[name]())
    return Method(
        optax.chain(plan.base(plan.learning_rate), scale),
        lambda state, step: plan.learning_rate * optax_adaptive.lr_scale(state),
        decides=True,
        observe=optax_adaptive.observe,
    )


def _reduce_on_plateau(plan: Plan) -> Method:
    """Optax's rule, judging the mean training loss of an epoch."""
    rule = contrib.reduce_on_plateau(
        factor=0.5, patience=3, accumulation_size=plan.steps_per_epoch
    )
    return Method(
        optax.chain(plan.base(plan.learning_rate), rule),
        lambda state, step: plan.learning_rate * state[1].scale,
        decides=True,
    )


def _schedule_free(plan: Plan) -> Method:
    warmup = max(plan.steps // 20, 1)
    tx = contrib.schedule_free_adamw(plan.learning_rate, warmup_steps=warmup)
    return Method(
        tx,
        lambda state, step: plan.learning_rate * jnp.minimum(step / warmup, 1),
        contrib.schedule_free_eval_params,
        averages=True,
    )


def _peer(tx: optax.GradientTransformation, learning_rate: Callable) -> Method:
    return Method(optax.with_extra_args_support(tx), learning_rate)


def _no_rate(state, step):
    return jnp.nan  # DoG, DoWG and COCOB have a rate for each step or parameter.


# Each with the learning rate that it recommends.
PEERS: dict[str, tuple[float, Callable[[Plan], Method]]] = {
    "reduce_on_plateau": (0.01, _reduce_on_plateau),
    "prodigy": (
        1.0,
        lambda p: _peer(
            contrib.prodigy(p.learning_rate),
            lambda state, step: p.learning_rate * state.estim_lr,
        ),
    ),
    "dadapt_adamw": (
        1.0,
        lambda p: _peer(
            contrib.dadapt_adamw(p.learning_rate),
            lambda state, step: p.learning_rate * state.estim_lr,
        ),
    ),
    "dog": (1.0, lambda p: _peer(contrib.dog(p.learning_rate), _no_rate)),
    "dowg": (1.0, lambda p: _peer(contrib.dowg(p.learning_rate), _no_rate)),
    "mechanize": (
        0.01,
        lambda p: _peer(
            contrib.mechanize(p.base(p.learning_rate)),
            lambda state, step: p.learning_rate * jnp.sum(state.s),
        ),
    ),
    "momo_adam": (
        0.01,
        # The loss bounds its step, so this is the largest rate that it may take.
        lambda p: _peer(
            contrib.momo_adam(p.learning_rate), lambda state, step: p.learning_rate
        ),
    ),
    "cocob": (1.0, lambda p: _peer(contrib.cocob(p.learning_rate), _no_rate)),
    "schedule_free_adamw": (0.0025, _schedule_free),
    "hypergradient": (
        0.01,
        lambda p: _peer(
            hypergradient(p.base(p.learning_rate)),
            lambda state, step: p.learning_rate * state.rate_factor,
        ),
    ),
}


def _autotune(plan: Plan) -> Method:
    # It plans the whole run where that has the 200 steps that a plan needs.
    total_steps = plan.steps if plan.steps >= 200 else None
    return Method(
        optax_adaptive.autotune(plan.base(plan.learning_rate), total_steps=total_steps),
        lambda state, step: plan.learning_rate * optax_adaptive.lr_scale(state),
        optax_adaptive.eval_params,
        averages=True,
        decides=True,
    )


NAMES = ("autotune", *SCHEDULES, *controllers.REGISTRY, *PEERS)


def build(
    name: str,
    optimizer: str,
    learning_rate: float | None,
    steps: int,
    steps_per_epoch: int,
) -> Method:
    """Makes a method.

    Args:
      name: One of ``NAMES``.
      optimizer: One of ``OPTIMIZERS``; ignored by the peers that are one themselves.
      learning_rate: The base rate; None for the method's own default.
      steps: Length of the whole run.
      steps_per_epoch: Length of an epoch.

    Returns:
      The method.
    """
    if learning_rate is None:
        learning_rate = PEERS[name][0] if name in PEERS else 0.01
        learning_rate = 0.001 if name == "fixed" else learning_rate
    base = OPTIMIZERS[optimizer]
    plan = Plan(base, learning_rate, steps, steps_per_epoch)
    if name in SCHEDULES:
        return _schedule(name, plan)
    if name in controllers.REGISTRY:
        return _controller(name, plan)
    if name == "autotune":
        return _autotune(plan)
    return PEERS[name][1](plan)
