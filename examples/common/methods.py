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
from common.learned_ablations import LEARNED_ABLATIONS
from common.random_actions import random_actions
from common.schedules import SCHEDULES
from optax_adaptive import controllers

OPTIMIZERS: dict[str, Callable[[Any], optax.GradientTransformation]] = {
    "adam": optax.adam,
    "adamw": optax.adamw,
    "nadamw": optax.nadamw,
    "lion": optax.lion,
    "momentum": lambda learning_rate: optax.sgd(learning_rate, 0.9),
    "sgd": optax.sgd,
    "adafactor": optax.adafactor,
    "muon": contrib.muon,
}

# The same without momentum, where that is not what they are already.
WITHOUT_MOMENTUM: dict[str, Callable[[Any], optax.GradientTransformation]] = {
    **OPTIMIZERS,
    "adam": lambda learning_rate: optax.adam(learning_rate, b1=0.0),
    "adamw": lambda learning_rate: optax.adamw(learning_rate, b1=0.0),
    "nadamw": lambda learning_rate: optax.adamw(learning_rate, b1=0.0),
    "lion": lambda learning_rate: optax.lion(learning_rate, b1=0.0),
    "momentum": optax.sgd,
    "muon": lambda learning_rate: contrib.muon(learning_rate, beta=0.0, adam_b1=0.0),
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
    bare: Callable[[Any], optax.GradientTransformation]  # base without momentum
    learning_rate: Any  # a float, or traced
    steps: int
    steps_per_epoch: int


def _make_schedule(name: str, plan: Plan) -> optax.Schedule:
    return SCHEDULES[name](plan.learning_rate, plan.steps, plan.steps_per_epoch)


def _schedule(name: str, plan: Plan) -> Method:
    schedule = _make_schedule(name, plan)
    return Method(
        optax.with_extra_args_support(plan.base(schedule)),
        lambda state, step: schedule(step),
    )


# The library's rules, and an ablation of them all.
RULES: dict[str, Callable[[], optax_adaptive.Controller]] = {
    **controllers.REGISTRY,
    "range_test_trend": lambda: controllers.then(
        controllers.range_test(), controllers.trend()
    ),
    "random": random_actions,
}
LEARNERS = ("bandit", "q_learning", "actor_critic", "random")  # and their ablation


def _controller(
    plan: Plan, rule: optax_adaptive.Controller, anchor: str = "fixed", **options: Any
) -> Method:
    """A rule after the base optimizer, which follows the schedule ``anchor``."""
    schedule = _make_schedule(anchor, plan)
    rate = plan.learning_rate if anchor == "fixed" else schedule
    scaling = optax_adaptive.scale_by_controller(rule, **options)
    return Method(
        optax.chain(plan.base(rate), scaling),
        lambda state, step: schedule(step) * optax_adaptive.lr_scale(state),
        decides=True,
        observe=optax_adaptive.observe,
    )


def _averaged(method: Method, **options: Any) -> Method:
    """Within averaging, by which a rule sees what noise costs."""
    return method._replace(
        optimizer=optax_adaptive.with_averaging(method.optimizer, **options),
        eval_params=optax_adaptive.eval_params,
        averages=True,
    )


def _named_rule(name: str, plan: Plan, anchor: str = "fixed") -> Method:
    """A rule as its documentation has it."""
    if name in LEARNERS:
        # 200 windows are what they need to learn anything, if there are so many.
        size = learner_window(plan.steps)
        rule = _controller(plan, RULES[name](), anchor, accumulation_size=size)
        return _averaged(rule)
    if name in LEARNED:
        interpolates, knows_horizon = LEARNED[name]
        rule = controllers.learned(plan.steps if knows_horizon else None)
        return _learned(plan, rule, anchor, interpolates)
    rule = RULES[name]()
    method = _controller(plan, rule, anchor)
    if rule.needs:  # as autotune composes them
        method = _rolling_back(method, backoff=1.0, fraction=0.1)
        return method._replace(observe=lambda state, loss: state)  # they do not look
    return method


def learner_window(steps: int) -> int:
    """Steps that a learner averages over: 200 windows a run, of at least 5 steps."""
    return max(steps // 200, 5)


def _learned(
    plan: Plan,
    rule: optax_adaptive.Controller,
    anchor: str = "fixed",
    interpolates: bool = False,
) -> Method:
    """A rule as the learned policy was trained: within rollback and averaging."""
    options = {}
    if interpolates:
        plan = plan._replace(base=plan.bare)
        options = LEARNED_INTERPOLATED
    return _rolling_back(_controller(plan, rule, anchor), **options)


def _rolling_back(method: Method, backoff: float = 0.5, **options: Any) -> Method:
    """Within rollback, and that within averaging with these options."""
    inside = optax_adaptive.with_rollback(method.optimizer, backoff=backoff)
    return _averaged(method._replace(optimizer=inside), **options)


def _greedylr(plan: Plan) -> Method:
    """GreedyLR with its own defaults: absolute bounds, every step judged."""
    rule = controllers.greedy(
        min_scale=1e-3 / plan.learning_rate, max_scale=1.0 / plan.learning_rate
    )
    return _controller(plan, rule, accumulation_size=1)


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
    "greedylr": (0.01, _greedylr),
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


def _autotune(plan: Plan, interpolates: bool, knows_horizon: bool) -> Method:
    # It is told the length where that has the 200 steps that autotune asks for.
    total_steps = plan.steps if knows_horizon and plan.steps >= 200 else None
    base = plan.bare if interpolates else plan.base
    return autotuned(
        plan,
        optax_adaptive.autotune(
            base(plan.learning_rate), total_steps=total_steps, interpolate=interpolates
        ),
    )


def autotuned(plan: Plan, tx: optax.GradientTransformationExtraArgs) -> Method:
    """What autotune, or a composition like it, makes of the base rate."""
    return Method(
        tx,
        lambda state, step: plan.learning_rate * optax_adaptive.lr_scale(state),
        optax_adaptive.eval_params,
        averages=True,
        decides=True,
    )


# Both tables: whether gradients are taken at an interpolation with the average, which
# takes the place of momentum, and whether the horizon is known.
AUTOTUNE: dict[str, tuple[bool, bool]] = {
    "autotune": (False, True),
    "autotune_anytime": (False, False),
    "autotune_interpolated": (True, True),
    "autotune_interpolated_anytime": (True, False),
}
LEARNED: dict[str, tuple[bool, bool]] = {
    "learned": (False, True),
    "learned_anytime": (False, False),
    "learned_interpolated": (True, True),
    "learned_interpolated_anytime": (True, False),
}
# Of averaging around the interpolated forms, as docs/learned.md has it.
LEARNED_INTERPOLATED = {"fraction": 0.1, "interpolation": 0.7}
# Others that a study adds, by name.
MORE: dict[str, Callable[[Plan], Method]] = {}
_RULES = tuple(dict.fromkeys((*RULES, *LEARNED)))  # as they may follow a schedule
NAMES = (*AUTOTUNE, *SCHEDULES, *_RULES, *PEERS)


def build(
    name: str,
    optimizer: str,
    learning_rate: Any,
    steps: int,
    steps_per_epoch: int,
) -> Method:
    """Makes a method.

    Args:
      name: One of ``NAMES``, or a schedule and a rule as in ``cosine+trend``, which
        multiplies the two.
      optimizer: One of ``OPTIMIZERS``; ignored by the peers that are one themselves.
      learning_rate: The base rate, which may be traced; None for the method's default.
      steps: Length of the whole run.
      steps_per_epoch: Length of an epoch.

    Returns:
      The method.

    Raises:
      ValueError: If there is no such method or optimizer.
    """
    if optimizer not in OPTIMIZERS:
        raise ValueError(
            f"there is no optimizer {optimizer!r}, but {', '.join(OPTIMIZERS)}"
        )
    if learning_rate is None:
        learning_rate = PEERS[name][0] if name in PEERS else 0.01
        learning_rate = 0.001 if name == "fixed" else learning_rate
    base = OPTIMIZERS[optimizer]
    bare = WITHOUT_MOMENTUM[optimizer]
    plan = Plan(base, bare, learning_rate, steps, steps_per_epoch)
    if name in MORE:
        return MORE[name](plan)
    if name in SCHEDULES:
        return _schedule(name, plan)
    if name in LEARNED_ABLATIONS:
        return _learned(plan, LEARNED_ABLATIONS[name](steps))
    if name in _RULES:
        return _named_rule(name, plan)
    if name in AUTOTUNE:
        return _autotune(plan, *AUTOTUNE[name])
    if name in PEERS:
        return PEERS[name][1](plan)
    anchor, _, rule = name.partition("+")
    if anchor in SCHEDULES and rule in _RULES:
        return _named_rule(rule, plan, anchor)
    raise ValueError(
        f"there is no method {name!r}, but {', '.join(NAMES)}, and a schedule and a "
        "rule as in cosine+trend"
    )
