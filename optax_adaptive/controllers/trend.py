"""trend: up while the loss falls significantly, down when it stalls or rises."""

from typing import NamedTuple

import jax.numpy as jnp

from optax_adaptive._controller import Array, Controller
from optax_adaptive.signals.slope_test import slope_test
from optax_adaptive.state.trees import saturating_add
from optax_adaptive.state.validation import check_count, check_range

_Z_FALLING = 1.645  # one-sided, 5%
_Z_STRONG = 3.291  # one-sided, 0.05%: tested at every window, so far stricter
_SHORTEST = 5  # windows below which a slope is not tested


class TrendState(NamedTuple):
    """State of :func:`trend`."""

    windows_at_scale: Array  # shape=(), dtype=int32: finite ones at this scale
    flat_windows: Array  # shape=(), dtype=int32: tests in a row without a decrease


def trend(
    growth: float | Array = 1.5, decay: float | Array = 0.5, span: int | Array = 12
) -> Controller:
    """Moves the scale by a significance test of the slope of the loss.

    A straight line is fitted to the newest ``span`` windows at the scale in force:

    * a strongly significant decrease (z below -3.29) raises the scale by ``growth``;
    * a strongly significant rise, or a window without a finite value, lowers it by
      ``decay``;
    * once ``span`` windows are available, two tests in a row without a significant
      decrease (z above -1.645) are a plateau, which lowers it too;
    * otherwise it stays.

    Each of these changes restarts the history, so that a scale is judged by its own
    windows alone. So does a strongly significant decrease where ``growth`` is 1.
    Before ``span`` windows no plateau is declared, so that a slow but steady descent
    does not lower the scale.

    Args:
      growth: Factor after a strongly significant decrease, at least 1; 1 only anneals.
      decay: Factor after a plateau or a rise, in (0, 1).
      span: Windows in a fit, at least 5. At most the ``window`` of
        :func:`optax_adaptive.scale_by_controller` are available.

    Returns:
      A :class:`~optax_adaptive.Controller`.

    Raises:
      ValueError: If an argument is out of its range.

    Example:
      >>> from optax_adaptive import controllers, scale_by_controller
      >>> tx = scale_by_controller(controllers.trend(), accumulation_size=50)

    Reference:
      After the slope test of SALSA and SASA+: Zhang, Lang, Liu and Xiao, `Statistical
      adaptive stochastic gradient methods <https://arxiv.org/abs/2002.10597>`_, 2020
    """
    check_range("growth", growth, 1.0)
    check_range("decay", decay, 0.0, 1.0, open_low=True, open_high=True)
    check_count("span", span, _SHORTEST)

    def init_fn():
        return TrendState(
            windows_at_scale=jnp.zeros((), jnp.int32),
            flat_windows=jnp.zeros((), jnp.int32),
        )

    def update_fn(observation, state):
        is_finite = jnp.isfinite(observation.value)
        windows = saturating_add(state.windows_at_scale, is_finite)
        count = jnp.minimum(windows, span)
        z = slope_test(observation.history, count)
        is_tested = windows >= _SHORTEST
        is_flat = (windows >= span) & (z > -_Z_FALLING)
        flat_windows = jnp.where(is_flat, saturating_add(state.flat_windows, 1), 0)
        goes_up = is_tested & (z < -_Z_STRONG)
        goes_down = (is_tested & (z > _Z_STRONG)) | (flat_windows >= 2) | ~is_finite
        step = jnp.where(goes_up, jnp.log(growth), 0.0)
        step = jnp.where(goes_down, jnp.log(decay), step)
        restarts = goes_up | goes_down
        return observation.log_scale + step, TrendState(
            windows_at_scale=jnp.where(restarts, 0, windows),
            flat_windows=jnp.where(restarts, 0, flat_windows),
        )

    return Controller(init_fn, update_fn, name="trend")
