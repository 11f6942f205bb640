"""Keeps the learning rate of a run that is resumed with another base learning rate.

What a rule finds is a factor on the optimizer's own rate. The size of the optimizer's
first update shows that rate, and the state of the rule remembers it.
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from optax_adaptive._controller import Array
from optax_adaptive.signals.window_statistics import WindowStatistics

NEGLIGIBLE = 1e-30  # updates that are no larger say nothing about a rate
SAME = 1e-5  # relative: compilers and devices round the same rate differently


def first_update_size(
    optimizer: optax.GradientTransformationExtraArgs,
    params: optax.Params | None,
    state: optax.OptState,
) -> Array:
    """The largest entry of the first update, for gradients of 1 at parameters of 0.

    For one scalar parameter or, if the optimizer needs the structure of ``params``, for
    a scalar in place of each leaf. Nothing is as large as params, and since nothing
    depends on the step, XLA evaluates it at compile time.

    Args:
      optimizer: The optimizer.
      params: Only their structure counts.
      state: Its state; only what ``optax.inject_hyperparams`` keeps there counts.

    Returns:
      float32 of shape (); 0 for an optimizer that needs more than a ``value``.
    """
    zero, one = jnp.zeros((), jnp.float32), jnp.ones((), jnp.float32)
    for tree in (zero, jax.tree.map(lambda _: zero, params)):
        grads = jax.tree.map(lambda _: one, tree)
        try:
            first = _with_hyperparams_of(state, optimizer.init(tree))
            updates, _ = optimizer.update(grads, first, tree, value=one)
        except Exception:  # of any kind: optimizers need not accept such parameters
            continue
        sizes = [jnp.abs(leaf).astype(jnp.float32) for leaf in jax.tree.leaves(updates)]
        return jnp.max(jnp.stack(sizes)) if sizes else zero
    return zero


def compare(
    statistics: WindowStatistics, size: Array | None
) -> tuple[WindowStatistics, float | Array]:
    """The factor that makes updates those of the base rate that the run began with.

    Args:
      statistics: Those of the rule, which remember the first size that was known.
      size: The size of the first update at the present base rate, or None.

    Returns:
      The statistics and the factor, float32 of shape (); 1 if a size is not known.
    """
    if size is None:
        return statistics, 1.0
    is_known = (size > NEGLIGIBLE) & (size < jnp.inf)  # NaN compares false
    size = jnp.where(is_known, size, 0.0)
    before = statistics.first_update_size
    before = jnp.where(before > 0.0, before, size)
    ratio = before / jnp.where(is_known, size, 1.0)
    is_other = is_known & (jnp.abs(ratio - 1.0) > SAME)
    ratio = jnp.where(is_other, ratio, 1.0)
    return statistics._replace(first_update_size=before), ratio


def _with_hyperparams_of(state: Any, first: Any) -> Any:
    """``first``, with the hyperparameters that ``state`` holds.

    ``optax.inject_hyperparams`` reads them there, and not from what it was made with.
    """

    def is_injected(node):
        return isinstance(node, optax.InjectStatefulHyperparamsState)

    held = iter(filter(is_injected, jax.tree.leaves(state, is_leaf=is_injected)))

    def visit(node):
        if not is_injected(node):
            return node
        return node._replace(hyperparams=next(held).hyperparams)

    return jax.tree.map(visit, first, is_leaf=is_injected)
