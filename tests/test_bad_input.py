"""Errors that say what is wrong: nothing is silently ignored."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from optax_adaptive import (
    Controller,
    Request,
    autotune,
    controllers,
    integrations,
    lr_scale,
    observe,
    scale_by_controller,
    summary,
    with_averaging,
    with_rollback,
)
from tests.contract.rules import every_rule, tunable

CONSTANT = controllers.constant()
ADAM = optax.adam(1e-3)
NO_REQUEST = Request(0, False, False, False, 1.0, False, 0)

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


@pytest.mark.parametrize(("make", "arguments", "message"), OUT_OF_RANGE)
def test_a_hyperparameter_out_of_range(make, arguments, message):
    with pytest.raises(ValueError, match=message) as raised:
        make(**arguments)
    if len(arguments) == 1:
        assert repr(*arguments.values()) in str(raised.value)


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


@pytest.mark.parametrize("value", [1 + 2j, jnp.array(1 + 2j), "0.5", None])
def test_an_observed_value_must_be_real(value):
    tx = scale_by_controller(CONSTANT, feedback="observe")
    with pytest.raises(TypeError, match="`value` must be real"):
        observe(tx.init(None), value)


def test_every_setting_is_keyword_only():
    parameters = list(inspect.signature(scale_by_controller).parameters.values())
    assert all(p.kind is p.KEYWORD_ONLY for p in parameters[1:])


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        (None, TypeError, "value=loss"),
        (jnp.ones(3), ValueError, r"\(3,\).*average"),
        (np.ones((1, 1)), ValueError, r"\(1, 1\).*average"),
        ([1.0, 2.0], ValueError, r"\(2,\).*average"),
        (jnp.array(1j), TypeError, "complex64"),
    ],
)
def test_a_bad_value(value, error, message):
    tx = optax.chain(optax.sgd(1.0), scale_by_controller(CONSTANT))
    state = tx.init(jnp.ones(2))
    with pytest.raises(error, match=message):
        tx.update(jnp.ones(2), state, value=value)
    with pytest.raises(error, match=message):
        jax.jit(lambda state: tx.update(jnp.ones(2), state, value=value))(state)


def test_a_forgotten_value():
    tx = optax.chain(optax.sgd(1.0), scale_by_controller(CONSTANT))
    with pytest.raises(TypeError, match="value=loss"):
        tx.update(jnp.ones(2), tx.init(jnp.ones(2)))


@pytest.mark.parametrize("read", [lr_scale, summary, lambda state: observe(state, 1.0)])
@pytest.mark.parametrize("optimizer", [optax.adam(0.1), optax.sgd(0.1)])
def test_a_state_without_a_controller(read, optimizer):
    with pytest.raises(ValueError, match="no controller"):
        read(optimizer.init(jnp.ones(2)))


def test_an_observed_vector():
    state = scale_by_controller(CONSTANT).init(None)
    with pytest.raises(ValueError, match=r"\(3,\).*average"):
        observe(state, jnp.ones(3))


def test_two_controllers_have_no_single_factor():
    tx = optax.chain(scale_by_controller(CONSTANT), scale_by_controller(CONSTANT))
    with pytest.raises(ValueError, match="2 controllers.*summary"):
        lr_scale(tx.init(None))


def test_a_rule_whose_state_changes_its_layout():
    def update_fn(observation, state):
        return observation.log_scale, observation.history

    rule = Controller(lambda: jnp.zeros((), jnp.float32), update_fn)
    tx = scale_by_controller(rule, accumulation_size=1)
    with pytest.raises(TypeError, match="structure, shapes and dtypes"):
        tx.update(jnp.ones(()), tx.init(None), value=1.0)


def test_a_rule_whose_state_is_not_32_bit():
    rule = Controller(lambda: jnp.zeros((), jnp.float16), CONSTANT.update)
    with pytest.raises(TypeError, match="32-bit"):
        scale_by_controller(rule).init(None)


@pytest.mark.parametrize("wrap", [autotune, with_averaging, with_rollback])
def test_a_factory_is_no_optimizer(wrap):
    with pytest.raises(TypeError, match="call its factory first"):
        wrap(optax.adam)


@pytest.mark.parametrize("read", [jax.jit, lambda function: function])
@pytest.mark.parametrize(
    ("kept", "asked", "names"),
    [
        (controllers.plateau(), controllers.trend(), ("plateau-32", "trend-32")),
        (controllers.greedy(), controllers.range_test(), ("greedy-32", "range_test-3")),
        (
            controllers.constant(),
            controllers.bold_driver(),
            ("constant-32", "bold_driver-32"),
        ),
        (
            controllers.clip(controllers.trend(), 2.0),
            controllers.trend(),
            ("clip-trend-32", "'trend-32"),
        ),
    ],
)
def test_the_state_of_another_rule(kept, asked, names, read):
    state = scale_by_controller(kept).init({})
    tx = scale_by_controller(asked)
    with pytest.raises(ValueError, match=rf"be '?{names[1]}.*is '?{names[0]}"):
        read(lambda state: tx.update({}, state, value=1.0))(state)


def test_the_name_tells_rules_apart_that_remember_as_many_words():
    one, other = (
        scale_by_controller(rule) for rule in (CONSTANT, CONSTANT._replace(name="mine"))
    )
    state = one.init({})
    sizes = [
        [leaf.size for leaf in jax.tree.leaves(tx.init({}))] for tx in (one, other)
    ]
    assert sizes[0] == sizes[1]
    with pytest.raises(ValueError, match="be 'mine-32-v.*is 'constant-32-v"):
        other.update({}, state, value=1.0)


def test_the_state_of_another_window():
    state = scale_by_controller(CONSTANT, window=8).init({})
    with pytest.raises(ValueError, match="be 'constant-32-v.*is 'constant-8-v"):
        scale_by_controller(CONSTANT).update({}, state, value=1.0)


@pytest.mark.parametrize("interpolation", [0.0, 0.7])
def test_the_state_of_another_interpolation(interpolation):
    params = jnp.zeros(2)
    state = with_averaging(ADAM, interpolation=interpolation).init(params)
    tx = with_averaging(ADAM, interpolation=0.7 - interpolation)
    with pytest.raises(ValueError, match="the kind of average .*'plain.*'") as raised:
        tx.update(params, state, params)
    assert "'interpolated-v" in str(raised.value)


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
        rf"scale_by_controller\({name}"
    )
    with pytest.raises(
        ValueError, match=rf"{name}' does not work without {missing} around.*{right}"
    ):
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


def requesting(**fields):
    """A rule that holds, and asks for such fields."""
    asked = NO_REQUEST._replace(**fields)
    return CONSTANT._replace(request=lambda state: asked, name="mine")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (dict(probe=1.0), r"int32 of shape \(\) for probe, but it is float64"),
        (dict(probe=jnp.zeros((2,), jnp.int32)), r"for probe, but .* of shape \(2,\)"),
        (dict(restore=1), r"bool of shape \(\) for restore, but it is int64"),
        (dict(snapshot=jnp.zeros(())), "for snapshot, but it is float32"),
        (dict(half_life=jnp.ones((), jnp.float16)), "for half_life, but it is float16"),
        (dict(half_life=2), "float32 .* for half_life, but it is int64"),
        (dict(average_lags=None), "for average_lags, but it is object"),
        (dict(accumulation_size=jnp.uint32(3)), "accumulation_size, but it is uint32"),
    ],
)
def test_a_request_of_another_kind(fields, message):
    with pytest.raises(TypeError, match=rf"request of the rule 'mine' .*{message}"):
        scale_by_controller(requesting(**fields))


def test_a_request_that_is_none():
    rule = CONSTANT._replace(request=lambda state: (0, False), name="mine")
    with pytest.raises(TypeError, match="the rule 'mine' must be a Request, but it is"):
        scale_by_controller(rule)


@pytest.mark.parametrize("wrap", [jax.jit, lambda function: function])
def test_a_loss_with_its_auxiliary_output(wrap):
    tx = scale_by_controller(CONSTANT)
    step = wrap(lambda state, value: tx.update({}, state, value=value))
    with pytest.raises(
        TypeError, match="`value` must be one number, but it is a tuple"
    ):
        step(tx.init({}), (1.0, {"accuracy": 0.5}))


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
        ("back", "back", "goes back already"),
        ("back", "autotune", "goes back already"),
        ("autotune", "averaging", "averages and goes back by itself"),
        ("autotune", "back", "averages and goes back by itself"),
        ("autotune", "autotune", "averages and goes back by itself"),
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


def test_a_metric_that_nothing_would_look_at():
    state = autotune(ADAM).init(jnp.zeros(2))
    with pytest.warns(UserWarning, match="by the training loss alone"):
        observe(state, 1.0)
    observe(scale_by_controller(CONSTANT, feedback="observe").init({}), 1.0)


@pytest.mark.parametrize("answer", [None, jnp.zeros(1)])
def test_a_rule_that_answers_with_no_number(answer):
    with pytest.raises(
        TypeError, match="'mine' must return the new log factor, of shape"
    ):
        decide(lambda observation, state: (answer, state))


@pytest.mark.parametrize(
    "answer", [1.0, (1.0,), [1.0, ()], (1.0, (), ()), jnp.zeros(2), None]
)
def test_a_rule_that_answers_with_one_thing_in_place_of_two(answer):
    with pytest.raises(TypeError, match="'mine' must return two things"):
        decide(lambda observation, state: answer)


@pytest.mark.parametrize("answer", [np.inf, -np.inf, np.float32(np.nan)])
def test_a_rule_that_answers_with_what_is_not_finite(answer):
    with pytest.raises(ValueError, match="'mine' must return a finite log factor"):
        decide(lambda observation, state: (answer, state))


def decide(update):
    """Asks a rule with such an update once."""
    rule = Controller(lambda: (), update, name="mine")
    tx = scale_by_controller(rule, accumulation_size=1)
    tx.update({}, tx.init({}), value=1.0)
