"""Where the answer lies between short runs."""

import jax.numpy as jnp
import numpy as np
import pytest

from optax_adaptive._search import best_log_scale

LOG_SCALES = jnp.array([0.0, -1.0, -2.0])


@pytest.mark.parametrize(
    ("losses", "expected"),
    [
        ([2.0, 1.0, 2.0], -1.0),  # better beyond doubt
        ([1.0, 1.0, 2.0], -0.5),  # noise does not tell two of them apart
        ([1.0, 1.0, 1.0], -1.0),
        ([np.inf, 1.0, np.inf], -1.0),  # lost ones count for nothing
        ([np.inf, np.inf, np.inf], -2.0),  # the lowest
    ],
)
def test_what_noise_does_not_tell_apart_shares_the_answer(losses, expected):
    losses = jnp.array(losses, jnp.float32)
    answer = best_log_scale(losses, LOG_SCALES, jnp.float32(3.0), jnp.float32(0.01))
    assert float(answer) == pytest.approx(expected)
