"""Hyperparameters out of their range are errors that name them."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from optax_adaptive import (
    autotune,
    controllers,
    integrations,
    with_rollback,
)
from tests.contract.rules import every_rule, tunable

CONSTANT = controllers.constant()


ADAM = optax.adam(1e-3)


OUT_OF_RANGE = [
    (controllers.plateau, dict(factor=0.0), r"factor must be in \(0.0, 1.0\)"),
    (controllers.plateau, dict(factor=1.0), "factor must be in"),
    (controllers.plateau, dict(patience=0), r"patience must be in \[1, inf\)"),
    (controllers.plateau, dict(patience=1.5), "patience must be an integer"),
    (controllers.plateau, dict(rtol=-1e-3), "rtol must be in"),
    (controllers.plateau, dict(rtol=1.5), "rtol must be in"),
    (controllers.plateau, dict(atol=-1.0), "atol must be in"),
    (controllers.plateau, dict(cooldown=-1), "cooldown must be in"),
    (controllers.plateau, dict(criterion="mean"), "criterion must be one of"),
    (controllers.greedy, dict(factor=1.0), "factor must be in"),
    (controllers.greedy, dict(patience=-1), "patience must be in"),
    (controllers.greedy, dict(warmup=-1), "warmup must be in"),
    (controllers.greedy, dict(min_scale=0.0), "min_scale must be in"),
    (controllers.greedy, dict(min_scale=2.0, max_scale=1.0), "max_scale must be in"),
    (controllers.greedy, dict(smoothing=0), "smoothing must be in"),
    (controllers.greedy, dict(reset_after=-1), "reset_after must be in"),
    (controllers.bold_driver, dict(growth=0.9), "growth must be in"),
    (controllers.bold_driver, dict(decay=1.0), "decay must be in"),
    (controllers.trend, dict(growth=0.9), "growth must be in"),
    (controllers.trend, dict(decay=0.0), "decay must be in"),
    (controllers.trend, dict(span=4), "span must be in"),
    (controllers.range_test, dict(start=0.0), "start must be in"),
    (controllers.range_test, dict(start=1.0, stop=0.5), "stop must be in"),
    (controllers.range_test, dict(growth=1.0), "growth must be in"),
    (controllers.range_test, dict(idle_growth=1.0), "idle_growth must be in"),
    (controllers.range_test, dict(backoff=0.5), "backoff must be in"),
    (controllers.clip, dict(rule=CONSTANT, max_change=1.0), "max_change must be in"),
    (controllers.warmup, dict(rule=CONSTANT, steps=0), "steps must be in"),
    (controllers.then, dict(first=CONSTANT, second=CONSTANT), "is_done"),
    (controllers.plateau, dict(factor="0.5"), "factor must be one real number"),
    (controllers.plateau, dict(factor=np.ones(2)), "factor must be one real number"),
    (controllers.plateau, dict(patience=None), "patience must be an integer"),
    (
        integrations.as_schedule,
        dict(learning_rate=-1.0, controller=CONSTANT),
        "learning_r",
    ),
    (autotune, dict(optimizer=ADAM, interpolate="no"), "interpolate must be True or F"),
    (with_rollback, dict(optimizer=ADAM, backoff=None), "backoff must be one real num"),
    (with_rollback, dict(optimizer=ADAM, restore_inner=2), "restore_inner must be Tru"),
]


@pytest.mark.parametrize(("make", "arguments", "message"), OUT_OF_RANGE)
def test_a_hyperparameter_out_of_range(make, arguments, message):
    with pytest.raises(ValueError, match=message) as raised:
        make(**arguments)
    if len(arguments) == 1:
        assert repr(*arguments.values()) in str(raised.value)


@pytest.mark.parametrize("make", [controllers.search, controllers.bandit])
@pytest.mark.parametrize("settings", [{}, 0, ()])
def test_settings_of_another_kind_that_are_empty(make, settings):
    with pytest.raises(TypeError, match="settings"):
        make(settings=settings)


def test_micro_batches_of_what_is_no_optimizer():
    with pytest.raises(TypeError, match="optimizer must be a gradient transformation"):
        integrations.multi_steps(optax.adam, 4)


@every_rule
def test_no_hyperparameter_may_be_nan_or_negative(rule):
    for name, default in tunable(rule).items():
        for value in (np.nan, -1 if isinstance(default, int) else -1.0):
            with pytest.raises(ValueError, match=name):
                controllers.REGISTRY[rule](**{name: value})


@every_rule
def test_the_range_holds_for_jax_numbers_too(rule):
    for name in tunable(rule):
        with pytest.raises(ValueError, match=name):
            controllers.REGISTRY[rule](**{name: jnp.array(-1)})


FACTORY = controllers.plateau


@pytest.mark.parametrize(
    ("make", "arguments", "name"),
    [
        (controllers.clip, (FACTORY, 2.0), "rule"),
        (controllers.warmup, (FACTORY, 10), "rule"),
        (controllers.anchored, (FACTORY, CONSTANT), "anchor"),
        (controllers.anchored, (CONSTANT, FACTORY), "residual"),
        (controllers.then, (FACTORY, CONSTANT), "first"),
        (controllers.then, (controllers.range_test(), FACTORY), "second"),
    ],
)
def test_nor_does_a_factory_combine(make, arguments, name):
    with pytest.raises(TypeError, match=rf"{name} must be .*controllers\.plateau\(\)"):
        make(*arguments)


@pytest.mark.parametrize(
    ("make", "argument", "message"),
    [
        (controllers.learned, "weights", r"load_weights\(\), but .*'mine.json'"),
        (controllers.bandit, "prior", r"load_prior\(\), but .*'mine.json'"),
        (controllers.q_learning, "prior", "load_prior"),
        (controllers.actor_critic, "prior", "load_prior"),
    ],
)
def test_a_path_is_not_what_lies_there(make, argument, message):
    with pytest.raises(TypeError, match=message):
        make(**{argument: "mine.json"})


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (controllers.search, "SearchSettings"),
        (controllers.maintain, "MaintainSettings"),
        (controllers.bandit, "OnlineSettings"),
        (controllers.q_learning, "OnlineSettings"),
        (controllers.actor_critic, "OnlineSettings"),
    ],
)
def test_settings_of_another_rule(make, expected):
    other = controllers.MaintainSettings()
    other = controllers.SearchSettings() if make is controllers.maintain else other
    with pytest.raises(TypeError, match=f"must be a {expected}, but .* a .*Settings"):
        make(settings=other)
