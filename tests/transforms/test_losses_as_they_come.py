"""autotune: losses in any unit and dtype, that lie, jump, overflow, or say nothing."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from optax_adaptive import autotune, eval_params, summary, with_rollback
from tests.helpers.faults import (
    BATCH,
    FINISHED,
    STEPS,
    batch_loss,
    excess,
    start,
    stream,
    trained,
)

pytestmark = pytest.mark.usefixtures("standard_promotion")

TIME = np.arange(STEPS)
IS_LATE = TIME >= STEPS // 2
RISING = np.interp(TIME, [0.4 * STEPS, 0.8 * STEPS], [0.0, 1.0])
RARE = np.where(TIME % 200 == 150, 1000.0, 1.0)


def tuned():
    return autotune(optax.adam(1e-3), total_steps=STEPS)


def tuned_sgd():
    return autotune(optax.sgd(1e-3), total_steps=STEPS)


USUAL = {
    "negative": stream(loss_offset=-10.0),
    "far below zero": stream(loss_offset=-1e4),
    "below 1e-30": stream(factor=1e-33),
    "rare spikes": stream(factor=RARE),
    "rare spikes of the loss alone": stream(loss_factor=RARE),
    "a last batch of two": stream(examples=np.where(TIME % 20 == 19, 2, BATCH)),
    "gradients of a sum": stream(gradient_factor=BATCH),
    "twice as hard": stream(factor=1.0 + IS_LATE),
    "ever harder": stream(factor=1.0 + RISING),
    "twice the noise": stream(noise=np.where(IS_LATE, 2**0.5, 1.0)),
    "ever more noise": stream(noise=1.0 + RISING * (2**0.5 - 1.0)),
    "another input": stream(inputs=np.where(IS_LATE, 4, 3)),
    "more inputs": stream(inputs=np.where(IS_LATE, 4, 2)),
}
# What nothing can be judged by does not keep a search from ending, nor the rate found
# from being one to train at.
MUTE = {
    "always 0": stream(loss_factor=0.0),
    "constant": stream(loss_factor=0.0, loss_offset=3.0),
    "below 1e-30, not so its gradients": stream(loss_factor=1e-33),
    "constant later": stream(
        loss_factor=1.0 - IS_LATE, loss_offset=np.where(IS_LATE, 3.0, 0.0)
    ),
}


@pytest.mark.parametrize("name", [*USUAL, *MUTE])
def test_a_run_ends_as_it_does_without(name):
    """The plain run ends at 1e-6 to 5e-5, of 14."""
    run = trained(tuned)((USUAL | MUTE)[name])
    assert run.loss < 0.1 * FINISHED
    numbers = summary(run.state)
    assert numbers["phase"] == 3 and numbers["nonfinite_values"] == 0
    assert not numbers["is_stuck"] and not numbers["is_waiting"]
    # One a spike; Adam begins anew after each, at a rate that is large for that.
    assert numbers["rollbacks"] <= (5 if "spikes" in name else 3)


@pytest.mark.parametrize("factor", [BATCH, 64, 1 / 64])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_of_what_the_gradients_are_is_found_out(factor, seed):
    """As of a sum, with the mean as value. Adam itself goes by none of it."""
    usual = summary(trained(tuned)(stream(), seed).state)
    run = trained(tuned)(stream(gradient_factor=factor), seed)
    assert run.loss < 0.1 * FINISHED
    ratio = summary(run.state)["lr_scale"] / usual["lr_scale"]
    assert 0.4 < ratio < 2.5


def test_what_is_learned_by_heart_is_kept():
    """From then on the loss is exactly 0, and so are its gradients."""
    run = trained(tuned_sgd)(stream(factor=1.0 - IS_LATE))
    numbers = summary(run.state)
    assert run.values[-1] == numbers["last_value"] == 0.0
    assert numbers["rollbacks"] == 0
    assert run.loss < 0.1 * FINISHED


@pytest.mark.parametrize("field", ["loss_factor", "gradient_factor"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("since", [0, 8, 30, 60])  # each part of the search
def test_a_search_without_a_finite_loss_says_that_it_is_stuck(field, bad, since):
    run = trained(tuned)(stream(**{field: np.where(TIME < since, 1.0, bad)}))
    numbers = summary(run.state)
    assert numbers["phase"] < 3
    assert numbers["nonfinite_values"] > STEPS - since - 20
    assert numbers["is_stuck"] and not numbers["is_waiting"]
    np.testing.assert_allclose(run.params, 0.0, atol=1e-4)  # the first
    assert np.isfinite(run.loss)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_run_without_a_finite_loss_any_more_says_that_it_waits(bad):
    run = trained(tuned)(stream(loss_factor=np.where(IS_LATE, bad, 1.0)))
    numbers = summary(run.state)
    assert numbers["phase"] == 3 and numbers["rollbacks"] == 1
    assert numbers["is_waiting"] and not numbers["is_stuck"]
    assert run.loss < 0.1 * FINISHED


def test_a_burst_is_not_most_of_a_run_and_ends():
    wrong = np.where((TIME >= 600) & (TIME < 650), np.nan, 1.0)
    numbers = summary(trained(tuned_sgd)(stream(loss_factor=wrong)).state)
    assert numbers["rollbacks"] == 1
    assert not numbers["is_waiting"] and not numbers["is_stuck"]


@pytest.mark.parametrize("since", [0, 100])
def test_rollback_alone_says_that_it_waits(since):
    tx = with_rollback(optax.sgd(0.1))
    params = jnp.ones(2)
    state, update = tx.init(params), jax.jit(tx.update)
    for step in range(since + 30):
        value = 1.0 if step < since else jnp.inf
        _, state = update(params, state, params, value=jnp.float32(value))
    numbers = summary(state)
    assert numbers["rollbacks"] == 1 and numbers["is_waiting"]
    for _ in range(3):
        _, state = update(params, state, params, value=jnp.float32(1.0))
    numbers = summary(state)
    assert numbers["rollbacks"] == 1 and not numbers["is_waiting"]


@pytest.mark.parametrize("length", [10, 11])
@pytest.mark.parametrize("first", [14, 22, 30])
def test_one_burst_does_not_end_a_range_test(first, length):
    """Though the first parameters are back, and finite, just as it is over."""
    usual = summary(trained(tuned)(stream()).state)["found_scale"]
    is_bad = (TIME >= first) & (TIME < first + length)
    run = trained(tuned)(stream(loss_factor=np.where(is_bad, np.inf, 1.0)))
    found = summary(run.state)["found_scale"]
    assert 0.3 * usual < found < 3.0 * usual
    assert run.loss < 0.1 * FINISHED


DTYPES = [int, float, np.float64, np.int64, jnp.float16, jnp.bfloat16, jnp.float32]


def test_the_type_of_the_loss_decides_nothing():
    """Of whole numbers below 256, which all of them hold."""
    losses = np.asarray(trained(tuned)(stream()).values[:130])
    losses = np.rint(8.0 * np.minimum(losses, 30.0)).astype(int)
    tx = autotune(optax.sgd(0.1), total_steps=200)
    params, ends = jnp.ones(2), []
    for dtype in DTYPES:
        state = tx.init(params)
        for loss in losses:
            _, state = tx.update(params, state, params, value=dtype(loss))
        ends.append(state)
    assert summary(ends[0])["windows"] > 80
    for end in ends[1:]:
        jax.tree.map(np.testing.assert_array_equal, end, ends[0])


@functools.cache
def in_float16():
    """A jitted training on gradients of a scaled loss in float16.

    Of (loss_scale, grows, skips): whether the scale doubles every 50 steps and is
    halved where one overflows, and whether that step is kept from the optimizer.
    """
    tx = tuned()

    def step(carry, x, grows, skips):
        params, state, loss_scale, good = carry
        loss, grads = jax.value_and_grad(batch_loss)(params, *x)
        scaled = (loss_scale * grads).astype(jnp.float16)
        grads = scaled.astype(jnp.float32) / loss_scale
        has_overflowed = ~jnp.all(jnp.isfinite(grads))
        updates, new_state = tx.update(grads, state, params, value=loss)
        new = optax.apply_updates(params, updates), new_state
        new = optax.tree.where(has_overflowed & skips, (params, state), new)
        good = jnp.where(has_overflowed, 0, good + 1)
        factor = jnp.where(good % 50 == 0, 2.0, 1.0)
        factor = jnp.where(has_overflowed, 0.5, factor)
        loss_scale *= jnp.where(grows, factor, 1.0)
        return (*new, loss_scale, good), has_overflowed

    @jax.jit
    def run(loss_scale, grows, skips):
        carry, keys = start(tx)
        (params, state, *_), overflows = jax.lax.scan(
            functools.partial(step, grows=grows, skips=skips),
            (*carry, jnp.float32(loss_scale), jnp.int32(0)),
            (keys, stream()),
        )
        return excess(eval_params(state, params)), state, overflows

    return run


@pytest.mark.parametrize(
    ("loss_scale", "grows", "skips"),
    [(2.0**8, False, False), (2.0**24, True, False), (2.0**24, True, True)],
)
def test_gradients_of_a_scaled_loss_in_float16(loss_scale, grows, skips):
    loss, state, overflows = in_float16()(loss_scale, grows, skips)
    assert loss < 0.1 * FINISHED
    numbers = summary(state)
    assert numbers["phase"] == 3 and numbers["rollbacks"] == 0
    assert (overflows.sum() > 10) == grows
    seen = 0 if skips else overflows.sum()
    assert numbers["nonfinite_values"] == seen


def test_a_scale_at_which_all_overflows_says_so():
    _, state, overflows = in_float16()(2.0**20, False, False)
    assert overflows.all() and summary(state)["is_stuck"]


@pytest.mark.parametrize("length", [3, 4, 8, 15])
@pytest.mark.parametrize("first", [14, 22, 35])
@pytest.mark.parametrize("field", ["loss_factor", "factor"])
def test_spikes_in_a_row_do_not_end_the_range_test(field, first, length):
    usual = trained(tuned)(stream())
    factor = np.where((TIME >= first) & (TIME < first + length), 1000.0, 1.0)
    run = trained(tuned)(stream(**{field: factor}))
    found = summary(run.state)["found_scale"] / summary(usual.state)["found_scale"]
    assert 0.5 < found < 2.0
    assert run.loss < FINISHED
