"""multi_steps: gradient accumulation inside a chain that reads the loss."""

from typing import Any

import optax

from optax_adaptive.state.validation import check_optimizer


def multi_steps(
    optimizer: optax.GradientTransformation, every_k_schedule: Any, **kwargs: Any
) -> optax.GradientTransformationExtraArgs:
    """``optax.MultiSteps`` as a link of a chain that lets ``value`` through.

    Put the controller *after* it, where it sees the loss of every micro-batch: inside,
    it would see that of the last alone. ``optax.chain`` around a plain ``MultiSteps``
    raises instead of handing ``value`` on.

    Args:
      optimizer: The optimizer whose gradients are accumulated.
      every_k_schedule: Micro-batches per update, or a schedule of that number.
      **kwargs: Further arguments of ``optax.MultiSteps``.

    Returns:
      A transformation whose updates are zero on all but every k-th call.

    Raises:
      TypeError: If ``optimizer`` is not a gradient transformation.

    Example:
      >>> import optax, optax_adaptive
      >>> from optax_adaptive import controllers, integrations
      >>> tx = optax.chain(
      ...     integrations.multi_steps(optax.adam(1e-3), every_k_schedule=4),
      ...     optax_adaptive.scale_by_controller(controllers.trend()),
      ... )
    """
    check_optimizer(optimizer)
    accumulated = optax.MultiSteps(optimizer, every_k_schedule, **kwargs)
    update_fn: Any = accumulated.update  # its state type is narrower than optax's own
    return optax.GradientTransformationExtraArgs(accumulated.init, update_fn)
