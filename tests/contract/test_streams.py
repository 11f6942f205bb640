"""What holds for any stream of metrics."""

import jax
import numpy as np
import pytest
from flax.serialization import from_bytes, to_bytes
from hypothesis import given
from hypothesis import strategies as st

from optax_adaptive import controllers, summary
from tests.contract.rules import (
    MAX_SCALE,
    MIN_SCALE,
    STEPS,
    every_rule,
    followed,
    scaling,
    stream,
)
from tests.helpers.loud import assert_finite_answers

# greedy has an absolute margin by default; all others must not care for the unit.
unit_free_rule = pytest.mark.parametrize(
    "rule", [rule for rule in controllers.REGISTRY if rule != "greedy"]
)

any_float = st.floats(width=32)
moderate = st.floats(-(2.0**20), 2.0**20, width=32, allow_subnormal=False)


def streams(values):
    return st.lists(values, min_size=STEPS, max_size=STEPS).map(np.float32)


@every_rule
@given(values=streams(any_float))
def test_any_stream_in_finite_and_bounded_out(rule, values):
    scales, state = followed(rule)(values)
    assert_finite_answers(scales)
    assert np.all((scales >= np.float32(MIN_SCALE)) & (scales <= np.float32(MAX_SCALE)))
    numbers = summary(state)
    assert np.isfinite(numbers["last_value"])
    assert numbers["nonfinite_values"] == np.sum(~(np.abs(values) <= 1e37))
    assert followed(rule).compiled() == 1


@unit_free_rule
@given(
    exponent=st.integers(-20, 20),
    offset=st.sampled_from([0.0, -2.0, 4.0]),
    seed=st.integers(0, 2**16),
)
def test_the_unit_of_the_loss_does_not_matter(rule, exponent, offset, seed):
    values = stream(seed) + np.float32(offset)
    scales, _ = followed(rule)(values)
    scaled, _ = followed(rule)(values * np.float32(2.0**exponent))
    np.testing.assert_array_equal(scaled, scales)  # powers of two round nothing


@every_rule
@given(values=streams(moderate), stop=st.integers(1, 3))
def test_a_resumed_run_is_bitwise_the_uninterrupted_one(rule, values, stop):
    def finish(state, chunks):
        scales = []
        for chunk in chunks:
            chunk_scales, state = followed(rule)(chunk, state)
            scales.append(chunk_scales)
        return np.concatenate(scales), state

    # Chunks of an odd length, so that the stop may lie in the middle of a window.
    chunks = [values, values[::-1], 0.9 * values, values]
    start = scaling(rule).init(None)
    whole, last = finish(start, chunks)
    _, state = finish(start, chunks[:stop])
    target = jax.tree.map(np.zeros_like, start)
    resumed, resumed_last = finish(from_bytes(target, to_bytes(state)), chunks[stop:])
    np.testing.assert_array_equal(resumed, whole[stop * STEPS :])
    jax.tree.map(np.testing.assert_array_equal, resumed_last, last)
