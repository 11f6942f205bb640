"""bold_driver: a little faster while the loss falls, much slower when it rises."""

import jax.numpy as jnp

from optax_adaptive._controller import Array, Controller
from optax_adaptive.state.validation import check_range


def bold_driver(growth: float | Array = 1.1, decay: float | Array = 0.5) -> Controller:
    """Raises the scale after a window of lower loss, lowers it after a higher one.

    A change of the loss counts only if it exceeds the combined standard error of the
    two windows; else the scale stays. On a plateau, rise and decrease are equally
    likely, and since ``decay`` outweighs ``growth`` the scale anneals. A window without
    a finite value counts as a rise.

    Args:
      growth: Factor after a decrease, at least 1; 1.05 to 1.2 is usual.
      decay: Factor after a rise, in (0, 1).

    Returns:
      A :class:`~optax_adaptive.Controller` without state.

    Raises:
      ValueError: If an argument is out of its range.

    Example:
      >>> from optax_adaptive import controllers, scale_by_controller
      >>> tx = scale_by_controller(controllers.bold_driver(growth=1.05))

    Reference:
      Vogl et al., `Accelerating the convergence of the back-propagation method
      <https://doi.org/10.1007/BF00332914>`_, 1988; Battiti, *Accelerated
      backpropagation learning: two optimization methods*, Complex Systems 3, 1989
    """
    check_range("growth", growth, 1.0)
    check_range("decay", decay, 0.0, 1.0, open_low=True, open_high=True)

    def init_fn():
        return ()

    def update_fn(observation, state):
        # A blown-up window is not in the history: its rise is infinite nonetheless.
        change = observation.value - observation.history[-2]
        error = jnp.hypot(
            observation.standard_error[-1], observation.standard_error[-2]
        )
        has_last = observation.mask[-2]
        rises = (has_last & (change > error)) | jnp.isinf(observation.value)
        falls = has_last & (change < -error)
        step = jnp.where(falls, jnp.log(growth), 0.0)
        step = jnp.where(rises, jnp.log(decay), step)
        return observation.log_scale + step, state

    return Controller(init_fn, update_fn, name="bold_driver")
