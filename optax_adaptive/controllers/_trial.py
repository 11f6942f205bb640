"""The trial that opens learned: a range test (Smith, 2015), to be undone at its end.

It climbs boldly, since what it does to the parameters does not count: with_rollback
goes back to the first ones. A climb that is kept has to be slow where noise hides the
descent, and even so it has killed units by the time that the loss rises.
"""

import math

import jax.numpy as jnp

from optax_adaptive._controller import Array
from optax_adaptive.controllers._features import FeatureMemory

START = 1e-4  # first factor
# Steps of the log factor: a decade a window until the loss has fallen beyond doubt, and
# half of one from there on.
COARSE, FINE = math.log(10.0), math.log(10.0) / 2
FALL = 6.0  # errors of a window below the first loss that no noise explains
RISE = 8.0  # errors of a window above the first loss that end it
# So do windows without a new best once the loss has fallen: where units have died, it
# stays at that of guessing, which is below the first up to rates far above the edge.
PATIENCE = 2
LONGEST = 20  # windows, for a loss that neither falls nor rises
# How far below the edge to go on: a hundredth did better than a thirtieth, since to
# begin too low costs a few windows, and to begin too high all that follows.
BELOW = math.log(100.0)


def advance(
    before: FeatureMemory, memory: FeatureMemory, value: Array
) -> tuple[Array, Array]:
    """Judges a window of a trial.

    Args:
      before: The memory of the features before this window.
      memory: And with it.
      value: float32 mean of the window, inf at a blow-up.

    Returns:
      Whether the trial goes on, bool of shape (), and the change of the log factor,
      float32 of shape ().
    """
    # The noise of before: where the loss rises, its noise rises too.
    edge = memory.first_value + RISE * before.noise
    is_risen = (value > edge) & (memory.windows > 2)
    # The best window decides, since a decade later the fall may be undone already.
    fall = memory.first_value - memory.best_value
    has_fallen = (fall > FALL * memory.noise) & (memory.windows > 2)
    is_flat = has_fallen & (memory.since_best >= PATIENCE)
    is_over = is_risen | is_flat | (memory.windows > LONGEST) | ~jnp.isfinite(value)
    change = jnp.where(has_fallen, FINE, COARSE)
    return ~is_over, jnp.where(is_over, -BELOW, change)
