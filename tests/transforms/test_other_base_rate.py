"""A run of autotune is resumed with another base rate, and goes on as before."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import optax_adaptive
from optax_adaptive.transforms._base_rate import first_update_sizes
from tests.helpers.regression import squared_error, student, teacher

STEPS = 400  # the search ends at 80
OPTIMIZERS = {
    "adam": optax.adam,
    "by groups": lambda rate: optax.partition(
        {"first": optax.adam(rate), "second": optax.sgd(rate)},
        {"hidden": "first", "out": "second"},
    ),
    "injected": lambda rate: optax.inject_hyperparams(optax.sgd)(learning_rate=rate),
}

pytestmark = pytest.mark.usefixtures("standard_promotion")


@functools.cache
def chunk_of(name):
    """Ten steps of autotune at a base rate, of which those that are bad have no loss.

    The rate is an argument, so that one program serves them all.
    """

    def run(rate, carry, keys, is_bad):
        tx = optax_adaptive.autotune(OPTIMIZERS[name](rate), total_steps=STEPS)

        def step(carry, batch):
            params, state = carry
            key, is_bad = batch
            loss, grads = jax.value_and_grad(squared_error)(params, teacher(key))
            loss = jnp.where(is_bad, jnp.nan, loss)
            updates, state = tx.update(grads, state, params, value=loss)
            return (optax.apply_updates(params, updates), state), None

        return jax.lax.scan(step, carry, (keys, is_bad))[0]

    return jax.jit(run)


@functools.cache
def resumed(name, stop, rate):
    """A run at 0.1 that goes on at ``rate``, and is rolled back later on."""
    keys = jax.random.split(jax.random.key(1), STEPS)
    is_bad = (np.arange(STEPS) >= 300) & (np.arange(STEPS) < 310)
    params = student(jax.random.key(0))
    carry = params, optax_adaptive.autotune(OPTIMIZERS[name](0.1)).init(params)
    for i in range(0, STEPS, 10):
        now, chunk = 0.1 if i < stop else rate, slice(i, i + 10)
        carry = chunk_of(name)(now, carry, keys[chunk], is_bad[chunk])
    return carry


@pytest.mark.parametrize("rate", [10.0, 0.001])
@pytest.mark.parametrize(
    ("name", "stop"),
    [("adam", 200), ("adam", 30), ("injected", 200)],
)
def test_it_goes_on_as_the_run_began(name, stop, rate):
    params, state = resumed(name, stop, rate)
    expected, expected_state = resumed(name, stop, 0.1)
    summaries = [optax_adaptive.summary(one) for one in (state, expected_state)]
    assert all(summary["rollbacks"] == 1 for summary in summaries)
    for key in ("lr_scale", "found_scale"):
        np.testing.assert_allclose(summaries[0][key], summaries[1][key], rtol=1e-3)
    averages = (
        optax_adaptive.eval_params(state, params),
        optax_adaptive.eval_params(expected_state, expected),
    )
    for one, other in zip(*map(jax.tree.leaves, averages), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-3)


def warm_up(rate):
    return optax.sgd(optax.linear_schedule(0.0, rate, 10))


def whole_vectors(rate):
    def update_fn(updates, state, params):
        return {"out": -rate * updates["out"].reshape(3)}, state

    return optax.GradientTransformation(lambda params: (), update_fn)


def clipped(norm, rate=0.1):
    return optax.chain(optax.clip_by_global_norm(norm), optax.sgd(rate))


def by_parts(hidden, out):
    made = {"hidden": optax.adam(hidden), "out": optax.adam(out)}
    return optax.partition(made, {"hidden": "hidden", "out": "out"})


def by_rank(matrices, vectors):
    def labels(params):
        return jax.tree.map(lambda leaf: "m" if leaf.ndim > 1 else "v", params)

    made = {"m": optax.adam(matrices), "v": optax.adam(vectors)}
    return optax.partition(made, labels)


def muon(matrices, others):
    return optax.contrib.muon(matrices, adam_learning_rate=others)


PARAMS = {"hidden": jnp.full((2, 3), 7.0), "out": jnp.full((3,), 5.0)}


OF_SGD = 0.25e-3, 0.25e-3


@pytest.mark.parametrize(
    ("make", "sizes"),
    [
        (OPTIMIZERS["adam"], (0.25, 0.25)),
        (OPTIMIZERS["by groups"], (0.25e-3, 0.25)),
        (OPTIMIZERS["injected"], OF_SGD),
        (lambda rate: optax.sgd(rate, momentum=0.9), OF_SGD),
        (lambda rate: optax.adamw(rate, weight_decay=0.1), (0.25, 0.25)),
        (optax.polyak_sgd, OF_SGD),
        (lambda rate: clipped(1.0, rate), OF_SGD),
        (lambda rate: by_parts(rate, 0.0), (0.25, 0.25)),
        (warm_up, (0.0, 0.0)),
        (lambda rate: optax.lbfgs(), (0.0, 0.0)),
        (whole_vectors, (0.0, 0.0)),
    ],
)
def test_the_sizes_of_the_first_update(make, sizes):
    optimizer = optax.with_extra_args_support(make(0.25))
    found = first_update_sizes(optimizer, PARAMS, optimizer.init(PARAMS))
    assert found.dtype == jnp.float32 and found.shape == (2,)
    np.testing.assert_allclose(found, sizes, rtol=1e-4)


@pytest.mark.parametrize(
    ("before", "after", "ratios"),
    [
        # Updates after over updates before, of the matrix and of the vector.
        (optax.adam(0.1), optax.adam(0.001), (1.0, 1.0)),
        (clipped(1.0), clipped(0.1), (1.0, 1.0)),
        (by_parts(0.1, 0.2), by_parts(0.1, 0.02), (1.0, 0.1)),
        (by_parts(0.1, 0.2), by_parts(0.01, 0.2), (0.1, 1.0)),
        (by_parts(0.1, 0.2), by_parts(0.01, 0.02), (1.0, 1.0)),
        (by_rank(0.1, 0.2), by_rank(0.01, 0.2), (0.1, 1.0)),
        (by_rank(0.1, 0.2), by_rank(0.01, 0.02), (1.0, 1.0)),
        (muon(0.1, 0.01), muon(0.01, 0.01), (0.1, 1.0)),
        (muon(0.1, 0.01), muon(0.01, 0.001), (1.0, 1.0)),
    ],
)
def test_only_what_is_common_to_all_rates_is_undone(before, after, ratios):
    grads = jax.tree.map(lambda leaf: 1e-3 * jnp.ones_like(leaf), PARAMS)

    def update(optimizer, state):
        tx = optax_adaptive.autotune(optimizer)
        return tx.update(grads, state, PARAMS, value=1.0)

    state = optax_adaptive.autotune(before).init(PARAMS)
    for _ in range(3):
        _, state = update(before, state)
    (old, _), (new, _) = update(before, state), update(after, state)
    for name, ratio in zip(("hidden", "out"), ratios, strict=True):
        np.testing.assert_allclose(new[name], ratio * old[name], rtol=1e-3)


def test_the_rate_in_the_state_is_the_one_that_counts():
    optimizer = OPTIMIZERS["injected"](0.25)
    params = jnp.ones(2)
    state = optimizer.init(params)
    state.hyperparams["learning_rate"] = jnp.float32(0.5)
    found = first_update_sizes(optimizer, params, state)
    np.testing.assert_allclose(found, 0.5e-3, rtol=1e-6)


@pytest.mark.parametrize(
    ("optimizer", "of"),
    [
        (optax.sgd(optax.cosine_decay_schedule(0.1, 100)), "a factor on the updates"),
        (
            optax.inject_hyperparams(optax.sgd)(
                learning_rate=optax.linear_schedule(0.0, 0.1, 10)
            ),
            "learning_rate",
        ),
        (
            optax.inject_hyperparams(
                lambda decay: optax.chain(
                    optax.add_decayed_weights(decay),
                    optax.sgd(optax.linear_schedule(0.1, 0.0, 10)),
                )
            )(decay=0.01),
            "a factor on the updates",
        ),
    ],
)
def test_init_warns_of_a_schedule(optimizer, of):
    with pytest.warns(UserWarning, match=f"schedule, of {of}: .* Give a constant"):
        optax_adaptive.autotune(optimizer).init(jnp.ones(2))


@pytest.mark.parametrize(
    ("optimizer", "kept"),
    [
        (optax.contrib.schedule_free_sgd(0.1), "ScheduleFreeState"),
        (optax.contrib.mechanize(optax.sgd(0.1)), "MechanicState"),
    ],
)
def test_init_warns_of_parameters_that_no_factor_reaches(optimizer, kept):
    with pytest.warns(UserWarning, match=f"in its state, a {kept}.*interpolate=True"):
        optax_adaptive.autotune(optimizer).init(jnp.ones(2))


@pytest.mark.parametrize(
    ("optimizer", "kept"),
    [
        (optax.contrib.prodigy(1.0), "ProdigyState"),
        (optax.contrib.dadapt_adamw(1.0), "DAdaptAdamWState"),
        (optax.contrib.dog(1.0), "DoGState"),
        (optax.contrib.dowg(1.0), "DoWGState"),
        (optax.contrib.momo(1.0), "MomoState"),
        (optax.contrib.momo_adam(1.0), "MomoAdamState"),
        (optax.contrib.cocob(), "COCOBState"),
        (
            optax.chain(optax.sgd(0.1), optax.contrib.reduce_on_plateau()),
            "ReduceLROnPlateauState",
        ),
    ],
)
def test_init_warns_of_an_optimizer_that_finds_its_own_rate(optimizer, kept):
    with pytest.warns(UserWarning, match=f"its own rate .*{kept}.*plain optimizer"):
        optax_adaptive.autotune(optimizer).init(jnp.ones(2))


@pytest.mark.parametrize(
    "wrap",
    [
        optax_adaptive.autotune,
        optax_adaptive.with_rollback,
        optax_adaptive.with_averaging,
    ],
)
def test_sam_is_refused(wrap):
    sam = optax.contrib.sam(optax.sgd(0.1), optax.sgd(0.05), sync_period=2)
    with pytest.raises(ValueError, match=r"optax.contrib.sam cannot be inside"):
        wrap(sam).init(jnp.ones(2))


@pytest.mark.parametrize(
    "optimizer",
    [
        optax.adam(0.1),  # counts steps
        optax.inject_hyperparams(optax.adam)(learning_rate=0.1),
        optax.apply_if_finite(optax.sgd(0.1), 3),
    ],
)
def test_what_counts_steps_is_no_schedule(optimizer):
    optax_adaptive.autotune(optimizer).init(jnp.ones(2))
