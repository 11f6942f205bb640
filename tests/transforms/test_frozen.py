"""Trees of which a part is frozen, or no number: it stays as it is, bit by bit."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from optax_adaptive import (
    autotune,
    eval_params,
    summary,
    with_averaging,
    with_rollback,
)
from optax_adaptive.integrations import multi_steps

pytestmark = pytest.mark.usefixtures("standard_promotion")

STEPS = 300
TARGET = jnp.linspace(-1.0, 1.0, 6)
FROZEN = jnp.array([0.1, -3.0, 7.7] * 50)
LABELS = {"train": "train", "frozen": "frozen"}
TRAINED = {"train": True, "frozen": False}


def loss_fn(params):
    """Of a gradient in the frozen leaf as well."""
    return jnp.sum(jnp.square(params["train"] - TARGET)) + jnp.sum(params["frozen"])


def train(tx, params, grad_fn=None, apply=optax.apply_updates):
    """Whole training in one program: params, state and losses."""
    grad_fn = grad_fn or jax.value_and_grad(loss_fn)

    @jax.jit
    def run(params):
        def step(carry, _):
            params, state = carry
            loss, grads = grad_fn(params)
            updates, state = tx.update(grads, state, params, value=loss)
            return (apply(params, updates), state), loss

        return jax.lax.scan(step, (params, tx.init(params)), length=STEPS)

    (params, state), losses = run(params)
    return params, state, losses


def partition(optimizer):
    transforms = {"train": optimizer, "frozen": optax.set_to_zero()}
    return optax.partition(transforms, LABELS)


def masked(optimizer):
    frozen = jax.tree.map(lambda is_trained: not is_trained, TRAINED)
    return optax.chain(
        optax.masked(optimizer, TRAINED), optax.masked(optax.set_to_zero(), frozen)
    )


FREEZES = {
    "partition": lambda: partition(autotune(optax.adam(1e-3))),
    "masked": lambda: masked(with_averaging(with_rollback(optax.adam(0.1)))),
    "masked, autotune": lambda: masked(autotune(optax.adam(1e-3))),
}


@pytest.mark.parametrize("freeze", FREEZES)
def test_what_is_frozen_around_is_neither_changed_nor_kept(freeze):
    tx = FREEZES[freeze]()
    start = {"train": jnp.zeros(6), "frozen": FROZEN}
    params, state, _ = train(tx, start)
    for found in (params, eval_params(state, params)):
        np.testing.assert_array_equal(found["frozen"], FROZEN)
        assert loss_fn(found) - FROZEN.sum() < 0.01 * jnp.sum(jnp.square(TARGET))
    assert summary(state).get("phase", 3) == 3
    assert FROZEN.size not in [leaf.size for leaf in jax.tree.leaves(state)]


@pytest.mark.parametrize("interpolate", [False, True])
def test_what_is_frozen_inside_is_not_changed(interpolate):
    """By the returns of a search: float32 does not hold all of these integers."""
    frozen = {
        "frozen": FROZEN,
        "key": jnp.array([2**31 + 5, 7], jnp.uint32),
        "count": jnp.array(2**24 + 1, jnp.int32),
        "mask": jnp.array([True, False]),
    }

    def train_grad(params):
        return jax.value_and_grad(lambda p: jnp.sum(jnp.square(p - TARGET)))(params)

    def grad_fn(params):
        loss, grad = train_grad(params["train"])
        return loss, {"train": grad} | jax.tree.map(jnp.zeros_like, frozen)

    optimizer = optax.partition(
        {"train": optax.sgd(1e-3), "frozen": optax.set_to_zero()},
        {"train": "train"} | dict.fromkeys(frozen, "frozen"),
    )
    start = {"train": jnp.zeros(6)} | frozen
    params, state, losses = train(
        autotune(optimizer, interpolate=interpolate), start, grad_fn
    )
    for found in (params, eval_params(state, params)):
        for name, leaf in frozen.items():
            assert found[name].dtype == leaf.dtype
            np.testing.assert_array_equal(found[name], leaf)
    assert losses[-1] < 1e-3 * losses[0]
    # Integers do not count in the size of params, from which a search sets out. What
    # it finds goes by steps of the range test, of 10^(1/8).
    alone = autotune(optax.sgd(1e-3), interpolate=interpolate)
    _, other, _ = train(alone, jnp.zeros(6), train_grad)
    found, expected = (summary(of)["found_scale"] for of in (state, other))
    # Interpolation tolerates up to three times the rate.
    assert 0.05 < 1e-3 * found < (3.0 if interpolate else 1.0)
    np.testing.assert_allclose(found, expected, rtol=0.33)
    sizes = [leaf.size for leaf in jax.tree.leaves(state)]
    assert sizes.count(FROZEN.size) == 2  # averaged and copied, as the docstring says


def applied(params, updates):
    """As ``eqx.apply_updates``: of random keys there is nothing to add."""
    return params | {"train": params["train"] + updates["train"]}


@pytest.mark.parametrize(
    ("wrap", "inside"),
    [
        (with_rollback, True),
        (with_averaging, True),
        (autotune, True),
        (with_averaging, False),
    ],
)
def test_random_keys_among_the_params(wrap, inside):
    """Their gradient is of dtype float0."""
    params = {"train": jnp.zeros(6), "frozen": jax.random.key(3)}
    grad_fn = jax.value_and_grad(
        lambda p: jnp.sum(jnp.square(p["train"] - TARGET)), allow_int=True
    )
    optimizer = optax.sgd(0.1)
    inner = optax.masked(optimizer, TRAINED)
    tx = wrap(inner) if inside else optax.masked(wrap(optimizer), TRAINED)
    params, state, losses = train(tx, params, grad_fn, applied)
    assert losses[-1] < 1e-3 * losses[0]
    found = params if wrap is with_rollback else eval_params(state, params)
    assert jnp.array_equal(found["frozen"], jax.random.key(3))


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["weight", "bias", "activation"],
    meta_fields=["size"],
)
@dataclasses.dataclass
class Model:
    """As an Equinox model: functions are leaves, and what is not used is None."""

    weight: Any
    bias: Any
    activation: Any
    size: int = 6

    def __call__(self, x):
        return self.activation(self.weight * x)


MODEL = Model(jnp.ones(6), None, jnp.tanh)
FILTERED = Model(MODEL.weight, None, None)


def test_a_model_is_evaluated_whole_though_its_arrays_alone_are_trained():
    tx = with_averaging(optax.sgd(0.1))
    state, params = tx.init(FILTERED), FILTERED
    for _ in range(3):
        updates, state = tx.update(FILTERED, state, params)
        params = optax.apply_updates(params, updates)
    averaged = eval_params(state, params)
    assert 0.7 < averaged.weight[0] < 1.0
    model = eval_params(state, dataclasses.replace(params, activation=jnp.tanh))
    np.testing.assert_array_equal(model.weight, averaged.weight)
    np.testing.assert_array_equal(model(1.0), jnp.tanh(averaged.weight))


@pytest.mark.parametrize("wrap", [with_rollback, with_averaging, autotune])
def test_a_model_that_was_not_filtered_is_an_error(wrap):
    tx = wrap(optax.sgd(0.1))
    state = tx.init(FILTERED)
    with pytest.raises(ValueError, match="have 1 and these 2.*eqx.filter"):
        tx.update(FILTERED, state, MODEL, value=1.0)
    if wrap is not with_rollback:
        other = {"weight": MODEL.weight, "head": MODEL.weight}
        with pytest.raises(ValueError, match="of 1 leaves, but they have 2"):
            eval_params(state, other)


@pytest.mark.parametrize(
    "accumulated",
    [
        multi_steps(optax.adam(1e-3), 4),
        optax.chain(optax.adam(1e-3), optax.apply_every(4)),
    ],
)
def test_accumulation_inside_autotune_is_an_error(accumulated):
    """It would take steps without an update for such as do not move anything."""
    with pytest.raises(ValueError, match=r"MultiSteps\(autotune\(optimizer\)"):
        autotune(accumulated).init(jnp.zeros(3))


@functools.cache
def not_moving():
    """A compiled function of optimizer's rate, params and gradients."""

    @jax.jit
    def run(rate, params, grads):
        tx = autotune(optax.scale(-rate))

        def step(carry, _):
            params, state = carry
            updates, state = tx.update(grads, state, params, value=1.0)
            params = optax.apply_updates(params, updates)
            return (params, state), summary(state)

        return jax.lax.scan(step, (params, tx.init(params)), length=130)

    return run


@pytest.mark.parametrize(
    ("rate", "start", "grads"),
    [
        (0.0, jnp.zeros(6), jnp.ones(6)),
        (1.0, jnp.zeros(6), jnp.zeros(6)),
        (1.0, {}, {}),
    ],
)
def test_where_nothing_moves_the_summary_says_so(rate, start, grads):
    (params, state), numbers = not_moving()(jnp.float32(rate), start, grads)
    np.testing.assert_array_equal(numbers["is_stuck"], np.arange(130) >= 99)
    assert (numbers["phase"] == 0).all()
    for found in (params, eval_params(state, params)):
        jax.tree.map(np.testing.assert_array_equal, found, start)
