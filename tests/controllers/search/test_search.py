"""search within the wrappers: it finds a rate, and what follows goes on from there."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from optax_adaptive import (
    controllers,
    lr_scale,
    scale_by_controller,
    summary,
    with_averaging,
    with_rollback,
)
from optax_adaptive.controllers.search import SearchSettings
from tests.helpers.spy import spy


def wrapped(rule):
    """The rule behind an SGD of a rate far too low, in the wrappers."""
    scaling = scale_by_controller(rule, min_scale=1e-30, max_scale=1e30)
    return with_averaging(with_rollback(optax.chain(optax.sgd(1e-6), scaling)))


def train(tx, steps, noise=0.05, most=jnp.inf):
    """Of a quadratic; last params, state and summary, and all summaries.

    Where a parameter, which is best at 1, is above ``most``, the loss overflows.
    """

    def step(carry, index):
        params, state = carry
        shift = noise * jax.random.normal(jax.random.key(index), (4,))
        loss, grads = jax.value_and_grad(
            lambda p: jnp.sum(jnp.square(p - 1.0 + shift))
        )(params)
        loss = jnp.where(jnp.max(params) > most, jnp.inf, loss)
        updates, state = tx.update(grads, state, params, value=loss)
        return (optax.apply_updates(params, updates), state), summary(state)

    start = jnp.zeros(4), tx.init(jnp.zeros(4))
    (params, state), numbers = jax.lax.scan(step, start, jnp.arange(steps))
    return params, state, jax.tree.map(np.asarray, numbers)


@functools.cache
def searched(most=jnp.inf):
    return train(wrapped(controllers.search(400)), 400, most=most)


def test_alone_it_finds_a_rate_and_holds_it():
    params, state, numbers = searched()
    assert set(numbers["phase"]) == {0, 1, 2, 3}
    (first, *_) = np.flatnonzero(numbers["phase"] == 3)
    found = summary(state)["found_scale"]
    assert 1e3 < found < 1e6  # of an SGD of 1e-6, and curvature 2
    assert (numbers["lr_scale"][first:] == found).all()
    assert float(jnp.abs(params - 1.0).max()) < 0.1


def test_losses_that_overflow_end_the_range_test_the_second_time():
    """As a burst that ends with the return is none of the rate's doing."""
    usual = searched()[1]
    params, state, numbers = searched(most=1.1)
    (in_test,) = np.nonzero(numbers["phase"] == 1)
    assert numbers["nonfinite_values"][in_test[-1]] in (20, 21)
    found = summary(state)["found_scale"] / summary(usual)["found_scale"]
    assert 0.3 < found < 3.0
    assert float(jnp.abs(params - 1.0).max()) < 0.1


def test_what_follows_goes_on_from_there_with_its_own_windows():
    rule = controllers.then(controllers.search(400), controllers.trend())
    params, _, numbers = train(wrapped(rule), 600)
    (first, *_) = np.flatnonzero(numbers["phase"] == 3)
    held = numbers["lr_scale"][first : first + 20]
    np.testing.assert_array_equal(held, numbers["found_scale"][first])
    # Of 20 values, but for the one of a return.
    (ends,) = np.nonzero(np.diff(numbers["windows"][first:]))
    assert ends[0] in (19, 20)
    np.testing.assert_array_equal(np.diff(ends), 20)
    changes = np.flatnonzero(np.diff(numbers["lr_scale"][first:]))
    assert changes.size and set(changes) <= set(ends)
    assert float(jnp.abs(params - 1.0).max()) < 0.1


def test_what_follows_sees_nothing_from_before():
    rule, seen = spy()
    rule = controllers.then(controllers.search(400), rule)
    *_, numbers = train(wrapped(rule), 400)
    jax.effects_barrier()
    (first, *_) = np.flatnonzero(numbers["phase"] == 3)
    steps = [int(o.step) for o in seen]
    assert steps[0] - first in (20, 21)
    np.testing.assert_array_equal(np.diff(steps), 20)
    assert [int(o.mask.sum()) for o in seen] == list(range(1, len(seen) + 1))
    scale = numbers["lr_scale"][first]
    np.testing.assert_allclose(np.exp(seen[0].log_scale), scale, rtol=1e-5)


def test_settings_are_arguments():
    tx = wrapped(controllers.search(400, SearchSettings(calibration_steps=40)))
    *_, numbers = train(tx, 60)
    assert (numbers["phase"] > 0).tolist() == 39 * [False] + 21 * [True]
    halved = SearchSettings(long_over_short=0.1)
    _, state, _ = train(wrapped(controllers.search(400, halved)), 200)
    _, usual, _ = train(wrapped(controllers.search(400)), 200)
    np.testing.assert_allclose(lr_scale(state), lr_scale(usual) / 2, rtol=1e-4)
