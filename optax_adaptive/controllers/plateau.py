"""plateau: lowers the learning rate when the metric has stopped improving."""

from typing import Literal, NamedTuple

import jax.numpy as jnp

from optax_adaptive._controller import Array, Controller
from optax_adaptive.controllers._improvement import beats
from optax_adaptive.signals.slope_test import slope_test
from optax_adaptive.state.validation import check_choice, check_count, check_range

_Z_95 = 1.645  # one-sided, 5%


class PlateauState(NamedTuple):
    """State of :func:`plateau`."""

    best_value: Array  # shape=(), dtype=float32: inf before the first window
    bad_windows: Array  # shape=(), dtype=int32: windows without improvement, in a row
    cooldown_left: Array  # shape=(), dtype=int32


def plateau(
    factor: float | Array = 0.1,
    patience: int | Array = 10,
    rtol: float | Array = 1e-4,
    atol: float | Array = 0.0,
    cooldown: int | Array = 0,
    criterion: Literal["best", "slope"] = "best",
) -> Controller:
    """Multiplies the scale by ``factor`` after ``patience`` windows of no improvement.

    On a non-negative metric it decides exactly as ``optax.contrib.reduce_on_plateau``
    does. PyTorch's ``ReduceLROnPlateau(patience=p)`` waits for one window more: it is
    ``plateau(patience=p + 1)`` here. Unlike optax's, the margin is
    ``rtol * |best| + atol``, so that a negative metric improves when it falls. The
    floor is ``min_scale`` of :func:`optax_adaptive.scale_by_controller`.

    Args:
      factor: What the scale is multiplied by, in (0, 1).
      patience: Windows in a row without improvement that trigger it, at least 1.
      rtol: Margin of an improvement relative to the best metric, in [0, 1].
      atol: Absolute margin of an improvement, at least 0, in units of the metric.
      cooldown: Windows after a reduction that do not count as bad, at least 0.
      criterion: ``"best"``: a window improves if it beats the best one so far by the
        margin. ``"slope"``: it improves while the newest ``patience - 1`` windows
        (at least 5, or all that are kept) decrease significantly, at 5%, so that one
        lucky window does not make a steady descent look like a plateau. Then the
        margins play no part.

    Returns:
      A :class:`~optax_adaptive.Controller`.

    Raises:
      ValueError: If an argument is out of its range.

    Example:
      >>> from optax_adaptive import controllers, scale_by_controller
      >>> tx = scale_by_controller(controllers.plateau(factor=0.5), accumulation_size=1)

    Reference:
      The rule of PyTorch's ReduceLROnPlateau and optax.contrib.reduce_on_plateau.
    """
    check_range("factor", factor, 0.0, 1.0, open_low=True, open_high=True)
    check_count("patience", patience)
    check_range("rtol", rtol, 0.0, 1.0)
    check_range("atol", atol, 0.0)
    check_count("cooldown", cooldown, 0)
    check_choice("criterion", criterion, ("best", "slope"))

    def init_fn():
        return PlateauState(
            best_value=jnp.array(jnp.inf, jnp.float32),
            bad_windows=jnp.zeros((), jnp.int32),
            cooldown_left=jnp.zeros((), jnp.int32),
        )

    def is_falling(observation):
        available = jnp.sum(observation.mask, dtype=jnp.int32)
        # Fewer than `patience`: an outlier leaves the fit before it has made that many
        # windows look bad.
        count = jnp.minimum(available, jnp.maximum(patience - 1, 5))
        is_short = count < min(5, observation.mask.size)  # too few to tell: wait
        z = slope_test(observation.history, count)
        return jnp.isfinite(observation.value) & (is_short | (z < -_Z_95))

    def update_fn(observation, state):
        is_better = beats(observation.value, state.best_value, rtol, atol)
        best_value = jnp.where(is_better, observation.value, state.best_value)
        if criterion == "slope":
            is_better = is_falling(observation)
        is_cooling = state.cooldown_left > 0
        bad_windows = jnp.where(is_better | is_cooling, 0, state.bad_windows + 1)
        is_plateau = bad_windows >= patience
        log_scale = observation.log_scale + jnp.where(is_plateau, jnp.log(factor), 0.0)
        return log_scale, PlateauState(
            best_value=best_value,
            bad_windows=jnp.where(is_plateau, 0, bad_windows),
            cooldown_left=jnp.where(
                is_plateau, cooldown, jnp.maximum(state.cooldown_left - 1, 0)
            ).astype(jnp.int32),
        )

    return Controller(init_fn, update_fn, name="plateau")
