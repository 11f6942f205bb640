"""The library's rules as methods: each as its documentation composes it."""

from collections.abc import Callable

import optax

import optax_adaptive
from methods.method import Method, Plan, averaged, controlled, rolling_back
from methods.random_actions import random_actions
from optax_adaptive import controllers

# The library's rules, and an ablation of them all.
RULES: dict[str, Callable[..., optax_adaptive.Controller]] = {
    **controllers.REGISTRY,
    "range_test_trend": lambda: controllers.then(
        controllers.range_test(), controllers.trend()
    ),
    "random": random_actions,
}
LEARNERS = ("bandit", "q_learning", "actor_critic", "random")  # and their ablation


# Both tables: whether gradients are taken at an interpolation with the average, which
# takes the place of momentum, and whether `total_steps` is given.
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
# Of averaging around the interpolated forms, as docs/research/learned.md has it.
LEARNED_INTERPOLATED = {"fraction": 0.1, "interpolation": 0.7}


def named_rule(name: str, plan: Plan, anchor: str = "fixed") -> Method:
    """A rule as its documentation has it."""
    if name in LEARNERS:
        # 200 windows are what they need to learn anything, if there are so many.
        size = learner_window(plan.steps)
        rule = RULES[name](seed=plan.seed)
        rule = controlled(plan, rule, anchor, accumulation_size=size)
        # They alone look at what is observed.
        return averaged(rule)._replace(observe=optax_adaptive.observe)
    if name in LEARNED:
        interpolates, has_total_steps = LEARNED[name]
        rule = controllers.learned(plan.steps if has_total_steps else None)
        return learned(plan, rule, anchor, interpolates)
    rule = RULES[name]()
    method = controlled(plan, rule, anchor)
    if rule.needs:  # as autotune composes them
        return rolling_back(method, backoff=1.0, fraction=0.1)
    return method


def learner_window(steps: int) -> int:
    """Steps that a learner averages over: 200 windows a run, of at least 5 steps."""
    return max(steps // 200, 5)


def learned(
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
    return rolling_back(controlled(plan, rule, anchor), **options)


def autotune(plan: Plan, interpolates: bool, has_total_steps: bool) -> Method:
    """A form of autotune."""
    # Given where there are the 200 steps that autotune asks for.
    total_steps = plan.steps if has_total_steps and plan.steps >= 200 else None
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
        rolls_back=True,
        decides=True,
    )
