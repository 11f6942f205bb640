"""Streams of faults that hypothesis makes up, over autotune and every rule.

What must hold for any stream: everything finite, and the factor within its bounds. And
for those that say nothing false about the rate: no run is lost that the bare optimizer
within ``optax.apply_if_finite`` finishes, which is more than most of it survives.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from optax_adaptive import summary
from tests.contract.methods import (
    ALONE,
    AUTOTUNE,
    MAX_SCALE,
    MIN_SCALE,
    RULES,
    of_methods,
)
from tests.contract.methods import (
    METHODS as COMPOSED,
)
from tests.helpers.faults import FINISHED, STEPS, stream, trained
from tests.helpers.loud import assert_finite_answers

METHODS = COMPOSED | ALONE
FAULTY = 400  # steps in which there may be faults; what is left is enough to train in
FIELDS = ("factor", "loss_factor", "gradient_factor")

pytestmark = pytest.mark.usefixtures("standard_promotion")


def bare():
    """Steps with a gradient that is not finite are skipped, however many."""
    return optax.apply_if_finite(optax.adam(0.03), STEPS)


bad_numbers = st.sampled_from([np.nan, np.inf, -np.inf])
sizes = st.floats(0.0, 6.0).map(lambda power: np.float32(10.0**power))


def bursts(numbers, lengths, fields=FIELDS):
    """Lists of (field, first step, length, number)."""
    steps = st.integers(0, FAULTY)
    burst = st.tuples(st.sampled_from(fields), steps, lengths, numbers)
    return st.lists(burst, min_size=1, max_size=3)


def with_bursts(events):
    """The stream in which each event overwrites a field for so many steps."""
    changed = stream()
    for field, first, length, number in events:
        getattr(changed, field)[first : first + length] = number
    return changed


@st.composite
def any_streams(draw):
    """Bursts, steps, ramps, waves and heavy tails, one on another."""
    numbers = bad_numbers | sizes | sizes.map(np.negative)
    changed = with_bursts(draw(bursts(numbers, st.integers(1, 100))))
    time = np.arange(STEPS, dtype=np.float32)
    jump, ramp = draw(sizes), draw(sizes)
    first, length = draw(st.integers(0, STEPS)), draw(st.integers(1, STEPS))
    is_on = st.booleans()
    if draw(is_on):
        changed.loss_offset[first:] += draw(st.sampled_from([-1, 1])) * jump
    if draw(is_on):
        changed.loss_offset[:] += ramp * np.clip((time - first) / length, 0.0, 1.0)
    if draw(is_on):
        changed.loss_offset[:] += jump * np.sin(2.0 * np.pi * time / length)
    if draw(is_on):
        rng = np.random.default_rng(draw(st.integers(0, 99)))
        changed.factor[:] *= np.abs(rng.standard_cauchy(STEPS))
    return changed


def check_is_sound(method, run):
    """Everything finite, and the factor within its bounds."""
    for leaf in jax.tree.leaves((run.params, run.loss, run.state)):
        if jnp.issubdtype(leaf.dtype, jnp.inexact):
            assert np.isfinite(leaf).all()
    numbers = summary(run.state)
    if "last_value" in numbers:
        assert np.isfinite(numbers["last_value"])
    if method in RULES:
        assert_finite_answers(run.scales)
        assert np.all(run.scales >= np.float32(MIN_SCALE))
        assert np.all(run.scales <= np.float32(MAX_SCALE))
    assert np.all((run.scales > 0.0) & np.isfinite(run.scales))


def check_is_not_lost(method, events):
    """Where bare Adam is finished, so is the method; and rollbacks have a reason."""
    changed = with_bursts(events)
    run = trained(METHODS[method])(changed)
    check_is_sound(method, run)
    if trained(bare)(changed).loss < FINISHED:
        assert run.loss < FINISHED
    if method in AUTOTUNE or method in ALONE:
        # Or the rate: too high, it is found out by a second rollback, and comes down;
        # and again where it has come back up meanwhile. One may stay the only one.
        numbers = summary(run.state)
        blamed = 2 * numbers["backoffs"] + 1
        assert numbers["rollbacks"] <= len(events) + blamed


# A burst that ends within the two steps of a return looks like a rate too high
# (docs/reliability.md), and one from which rules may draw their conclusions.
lengths = st.integers(1, 9) | st.integers(13, 60)
not_finite = bursts(bad_numbers, lengths)
# What a spike of the gradient does to Adam it does to the bare one as well, and how
# long that takes to heal depends on the rate.
rare_spikes = st.lists(
    st.tuples(
        st.just("loss_factor"),
        st.integers(0, FAULTY // 20).map(lambda twenties: 20 * twenties),
        st.integers(1, 2),
        sizes,
    ),
    min_size=1,
    max_size=6,
    unique_by=lambda event: event[1],
)


@of_methods(METHODS)
@given(changed=any_streams())
@settings(max_examples=10)
def test_any_stream_leaves_everything_finite(method, changed):
    check_is_sound(method, trained(METHODS[method])(changed))


@of_methods(METHODS)
@given(events=not_finite | rare_spikes)
@example(events=[("gradient_factor", 153, 20, np.nan)])
@example(events=[("loss_factor", 152, 60, np.inf), ("factor", 300, 40, np.nan)])
@settings(max_examples=12)
def test_no_run_is_lost(method, events):
    check_is_not_lost(method, events)


@pytest.mark.slow
@pytest.mark.parametrize("method", AUTOTUNE)
@given(events=bursts(bad_numbers, st.integers(1, 100)) | rare_spikes)
@settings(max_examples=100)
def test_no_run_of_autotune_is_lost_in_a_hundred(method, events):
    check_is_not_lost(method, events)
