"""Settings and compositions that cannot work are errors that say what does."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from optax_adaptive import (
    autotune,
    controllers,
    scale_by_controller,
    with_averaging,
    with_rollback,
)

CONSTANT = controllers.constant()
ADAM = optax.adam(1e-3)


BAD_SETTINGS = [
    (dict(accumulation_size=0), "accumulation_size must be in"),
    (dict(accumulation_size=2.5), "accumulation_size must be an integer"),
    (dict(accumulation_size=10**10), r"accumulation_size must be below 2\*\*31"),
    (dict(accumulation_size=True), "accumulation_size must be an integer"),
    (dict(window=2), "window must be in"),
    (dict(min_scale=-1.0), "min_scale must be in"),
    (dict(min_scale=np.inf, max_scale=np.inf), "min_scale must be in"),
    (dict(max_scale=1e-9), "max_scale must be in"),
    (dict(min_scale=0.0, max_scale=0.0), "max_scale must be in"),
    (dict(mode="lowest"), "mode must be one of"),
    (dict(feedback="loss"), "feedback must be one of"),
]


@pytest.mark.parametrize(("settings", "message"), BAD_SETTINGS)
def test_a_setting_out_of_range(settings, message):
    with pytest.raises(ValueError, match=message):
        scale_by_controller(CONSTANT, **settings)


def test_a_traced_window_says_how_to_keep_it_static():
    with pytest.raises(ValueError, match="static_args"):
        jax.jit(lambda window: scale_by_controller(CONSTANT, window=window).init(None))(
            8
        )


def test_a_factory_is_not_a_controller():
    with pytest.raises(TypeError, match=r"controllers\.plateau\(\)"):
        scale_by_controller(controllers.plateau)


def test_every_setting_is_keyword_only():
    parameters = list(inspect.signature(scale_by_controller).parameters.values())
    assert all(p.kind is p.KEYWORD_ONLY for p in parameters[1:])


@pytest.mark.parametrize("wrap", [autotune, with_averaging, with_rollback])
def test_a_factory_is_no_optimizer(wrap):
    with pytest.raises(TypeError, match="call its factory first"):
        wrap(optax.adam)


NEEDY = {
    "search": controllers.search,
    "maintain": controllers.maintain,
    "tuned": controllers.tuned,
    "learned": controllers.learned,
}


@pytest.mark.parametrize("name", NEEDY)
@pytest.mark.parametrize(
    ("wrap", "missing"),
    [
        (lambda tx: tx, "with_averaging and with_rollback"),
        (with_averaging, "with_rollback"),
        (with_rollback, "with_averaging"),
        (lambda tx: with_rollback(with_averaging(tx)), "with_rollback"),
    ],
)
def test_a_rule_without_the_wrappers_that_it_needs(name, wrap, missing):
    tx = wrap(optax.chain(optax.sgd(1.0), scale_by_controller(NEEDY[name]())))
    params = jnp.zeros(2)
    state = tx.init(params)
    right = (
        r"with_averaging\(with_rollback\(optax.chain\(optimizer, "
        r"scale_by_controller\(rule\)\)\)\)"
    )
    message = rf"{name}' does not work without {missing} around it: compose it, in this"
    with pytest.raises(ValueError, match=f"{message} order, as {right}"):
        jax.eval_shape(lambda state: tx.update(params, state, params, value=1.0), state)


@pytest.mark.parametrize("combine", ["then", "anchored", "warmup", "clip"])
def test_what_is_made_of_rules_needs_what_they_need(combine):
    made = {
        "then": controllers.then(controllers.search(), CONSTANT),
        "anchored": controllers.anchored(CONSTANT, controllers.maintain()),
        "warmup": controllers.warmup(controllers.maintain(), 10),
        "clip": controllers.clip(controllers.maintain(), 2.0),
    }
    assert set(made[combine].needs) == {"with_averaging", "with_rollback"}


@pytest.mark.parametrize(
    ("inside", "hint"),
    [
        (optax.MultiSteps(ADAM, 4), "put optax.MultiSteps around"),
        (CONSTANT, "by scale_by_controller"),
    ],
)
def test_what_is_no_optimizer_says_where_it_belongs(inside, hint):
    with pytest.raises(TypeError, match=hint):
        autotune(inside)


WRAPPERS = {"autotune": autotune, "averaging": with_averaging, "back": with_rollback}


@pytest.mark.parametrize(
    ("outer", "inner", "message"),
    [
        ("averaging", "averaging", "keeps an average already"),
        ("averaging", "autotune", "keeps an average already"),
        ("back", "back", "rolls back already"),
        ("back", "autotune", "rolls back already"),
        ("autotune", "averaging", "averages and rolls back by itself"),
        ("autotune", "back", "averages and rolls back by itself"),
        ("autotune", "autotune", "averages and rolls back by itself"),
    ],
)
def test_a_wrapper_around_one_that_does_the_same(outer, inner, message):
    chained = optax.chain(optax.clip(1.0), WRAPPERS[inner](ADAM))
    with pytest.raises(ValueError, match=message):
        WRAPPERS[outer](chained).init(jnp.zeros(2))


@pytest.mark.parametrize("rule", [CONSTANT, controllers.maintain()])
def test_a_rule_inside_autotune(rule):
    tx = autotune(optax.chain(ADAM, scale_by_controller(rule)))
    with pytest.raises(ValueError, match="holds no scale_by_controller"):
        tx.init(jnp.zeros(2))


def test_rollback_takes_no_metric_that_is_better_if_larger():
    rule = scale_by_controller(controllers.plateau(), mode="max")
    tx = with_rollback(optax.chain(optax.sgd(0.1), rule))
    state = tx.init(jnp.zeros(2))
    with pytest.raises(ValueError, match="for a loss, but mode is 'max'"):
        tx.update(jnp.zeros(2), state, jnp.zeros(2), value=0.5)
