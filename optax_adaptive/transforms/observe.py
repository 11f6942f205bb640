"""observe: a validation metric for the controllers inside any optimizer state."""

import warnings
from typing import Any

import jax
import jax.numpy as jnp

from optax_adaptive.signals import window_statistics
from optax_adaptive.state.controller_state import (
    OBSERVED,
    ScaleByControllerState,
    is_controller_state,
)
from optax_adaptive.state.packing import overwrite
from optax_adaptive.state.tag import unwrap_any
from optax_adaptive.state.trees import over_leading_axes
from optax_adaptive.state.validation import check_real
from optax_adaptive.transforms.inspect import bare, find, is_leaf, read_statistics

# Rules that ignore what observe() is given, and the other words in names of rules.
DEAF = {"constant", "plateau", "greedy", "bold_driver", "trend", "range_test"}
DEAF |= {"search", "maintain", "tuned", "learned", "policy"}
DEAF |= {"clip", "warmup", "anchored", "then", "interpolated", "max"}


def observe(opt_state: Any, value: Any) -> Any:
    """Hands a validation metric to every controller in ``opt_state``.

    With ``feedback="observe"`` the next update takes it in place of the loss. Otherwise
    rules see it at their next decision; of those in ``controllers``, only the online
    learners use it. If no rule does, as in :func:`autotune`, which decides by the
    training loss, a warning says so. Works inside ``jax.jit`` and outside, through
    chain, partition, masked, MultiSteps and other wrappers. A second value replaces the
    first if that has not been used yet, and a rollback discards it.

    Args:
      opt_state: The state of an optimizer that contains ``scale_by_controller``.
      value: Scalar of any real dtype; the controller's ``mode`` says whether smaller or
        larger is better. For a state with leading device or vmap axes, an array of just
        these axes works too.

    Returns:
      A new state of the same structure, shapes and dtypes.

    Raises:
      ValueError: If the state holds no controller or ``value`` has another shape.
      TypeError: If ``value`` is not of real numbers.

    Example:
      >>> import jax.numpy as jnp, optax, optax_adaptive
      >>> from optax_adaptive import controllers
      >>> rule = controllers.plateau(factor=0.5, patience=1)
      >>> tx = optax.chain(
      ...     optax.sgd(1.0),
      ...     optax_adaptive.scale_by_controller(rule, feedback="observe"),
      ... )
      >>> grads = jnp.array(1.0)
      >>> state = tx.init(grads)
      >>> for accuracy_loss in (0.3, 0.4):
      ...     state = optax_adaptive.observe(state, accuracy_loss)
      ...     updates, state = tx.update(grads, state)
      >>> float(updates)
      -0.5
    """
    check_real("value", value)
    names = [next(iter(rule.controller_memory)) for rule in find(opt_state).values()]
    if all(map(_is_deaf, names)):
        rules = ", ".join(name.rsplit("-", 2)[0] for name in names)
        warnings.warn(
            f"autotune and most rules (here {rules}) decide by the training loss "
            "alone: what observe() is given changes nothing, unless "
            "scale_by_controller has feedback='observe'",
            stacklevel=2,
        )

    def deposit(node):
        if not is_controller_state(node):
            return node
        state = bare(node)
        shape = state.lr_scale.shape
        if jnp.shape(value) not in ((), shape):
            raise ValueError(
                f"the observed value must be a scalar, but its shape is "
                f"{jnp.shape(value)}; average it first"
            )
        statistics = read_statistics(state)._replace(
            validation=jnp.broadcast_to(window_statistics.as_float32(value), shape),
            is_validated=jnp.ones(shape, jnp.bool_),
        )
        lay = over_leading_axes(overwrite, state.lr_scale.ndim)
        words = lay(unwrap_any(state.controller_memory), statistics)
        return jax.tree.unflatten(jax.tree.structure(node), (state.lr_scale, words))

    return jax.tree.map(deposit, opt_state, is_leaf=is_leaf(ScaleByControllerState))


def _is_deaf(name: str) -> bool:
    """Whether all rules in the name of a state are ours and ignore validations."""
    *rules, _window, _version = name.split("-")
    return OBSERVED not in name.split("-") and set(rules) <= DEAF
