"""What learned makes of the size of the updates."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optax_adaptive import controllers, lr_scale, scale_by_controller
from optax_adaptive.controllers import _shrinkage
from optax_adaptive.controllers._features import NAMES, SIZE
from optax_adaptive.controllers._policy import PolicyWeights


def shrinkage_reference(sizes):
    """Log of the average size after each window, over half of that after twenty."""
    averages = []
    for size in sizes:
        if size > 0 and averages:
            weight = max(1 / (len(averages) + 1), 0.1)
            averages.append((1 - weight) * averages[-1] + weight * math.log(size))
        elif size > 0:
            averages.append(math.log(size))
        first = averages[:20][-1] if averages else 0.0
        yield min(averages[-1] - first + math.log(2), 0.0) if averages else 0.0


def test_matches_the_reference():
    random = np.random.default_rng(0)
    sizes = np.exp(np.cumsum(random.normal(-0.1, 0.3, 80)))
    sizes[random.random(80) < 0.2] = 0.0
    add, shrinkage = jax.jit(_shrinkage.add), _shrinkage.first_shrinkage()
    found = []
    for size in sizes:
        shrinkage = add(shrinkage, jnp.float32(size))
        found.append(float(_shrinkage.log_factor(shrinkage)))
    assert min(found) < -1.0
    np.testing.assert_allclose(found, [*shrinkage_reference(sizes)], atol=1e-4)


# A policy that goes towards a quarter of the edge, by what it takes for the rate.
SPRING = PolicyWeights(
    linear=np.float32([-1.0 if name == "near_blow_up" else 0.0 for name in NAMES]),
    hidden=np.zeros((SIZE, 0), np.float32),
    hidden_bias=np.zeros(0, np.float32),
    output=np.zeros(0, np.float32),
    output_bias=np.float32(0.5),
)


@pytest.mark.parametrize(
    "times, expected", [(0.1, 5.0), (0.6, 1.0), (1.0, 1.0), (10.0, 1.0)]
)
def test_what_a_schedule_takes_is_given_back_but_for_a_half(times, expected):
    tx = scale_by_controller(controllers.learned(weights=SPRING), accumulation_size=1)
    # A factor that is in force already: there are no trials.
    state = tx.init(None)._replace(lr_scale=jnp.float32(1e-2))
    update = jax.jit(tx.update)
    noise, scales = np.random.default_rng(0).normal(1.0, 0.1, 600), []
    for k, value in enumerate(noise):
        arriving = jnp.float32(1.0 if k < 300 else times)
        _, state = update(arriving, state, value=jnp.float32(value))
        scales.append(float(lr_scale(state)))
    assert scales[-1] / scales[299] == pytest.approx(expected, rel=0.1)
