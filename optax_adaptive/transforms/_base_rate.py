"""Keeps the learning rate of a run that is resumed with another base learning rate.

What a rule finds is a factor on the optimizer's own rate. The sizes of the optimizer's
first updates show that rate, and the state of the rule remembers them.
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from optax_adaptive._controller import Array
from optax_adaptive.signals.window_statistics import WindowStatistics

NEGLIGIBLE = 1e-30  # updates that are no larger say nothing about a rate
SAME = 1e-5  # relative: compilers and devices round the same rate differently
GRADIENT = 1e-3  # small, so that a clip, which is no rate, leaves it alone


def first_update_sizes(
    optimizer: optax.GradientTransformationExtraArgs,
    params: optax.Params | None,
    state: optax.OptState,
) -> Array:
    """Least and most of the first update, for small gradients at parameters of 0.

    Without entries that do not move. For an array of one entry of each rank that
    ``params`` have, since some optimizers treat matrices in another way, or, if the
    optimizer needs the structure of ``params``, in place of each leaf. Nothing is as
    large as params, and since nothing depends on the step, XLA evaluates it at compile
    time.

    Args:
      optimizer: The optimizer.
      params: Only their structure and ranks count.
      state: Its state; only what ``optax.inject_hyperparams`` keeps there counts.

    Returns:
      float32 of shape (2,); 0 for an optimizer that needs more than a ``value``.
    """

    def zero(rank: int) -> Array:
        return jnp.zeros((1,) * rank, jnp.float32)

    ranks = sorted({jnp.ndim(leaf) for leaf in jax.tree.leaves(params)})
    of_each = jax.tree.map(lambda leaf: zero(jnp.ndim(leaf)), params)
    for tree in (list(map(zero, ranks)), of_each):
        grads = jax.tree.map(lambda leaf: jnp.full_like(leaf, GRADIENT), tree)
        try:
            first = _with_hyperparams_of(state, optimizer.init(tree))
            updates, _ = optimizer.update(
                grads, first, tree, value=jnp.ones((), jnp.float32)
            )
        except Exception:  # of any kind: optimizers need not accept such parameters
            continue
        sizes = [jnp.abs(leaf).astype(jnp.float32) for leaf in jax.tree.leaves(updates)]
        if not sizes:
            break
        all_sizes = jnp.concatenate([size.reshape(-1) for size in sizes])
        most = jnp.max(all_sizes)
        least = jnp.min(jnp.where(all_sizes > NEGLIGIBLE, all_sizes, most))
        return jnp.stack([least, most])
    return jnp.zeros((2,), jnp.float32)


def compare(
    statistics: WindowStatistics, sizes: Array | None
) -> tuple[WindowStatistics, float | Array]:
    """The factor that makes updates those of the base rate that the run began with.

    Args:
      statistics: Those of the rule, which remember the first sizes that were known.
      sizes: Those of the first update at the present base rate, or None.

    Returns:
      The statistics and the factor, float32 of shape (); 1 if sizes are not known, or
      if they have not changed alike: then the rate of a part is another, on purpose.
    """
    if sizes is None:
        return statistics, 1.0
    least, most = sizes
    is_known = (least > NEGLIGIBLE) & (most < jnp.inf)  # NaN compares false

    def of(before: Array, size: Array) -> tuple[Array, Array]:
        before = jnp.where((before > 0.0) | ~is_known, before, size)
        return before, before / jnp.where(is_known, size, 1.0)

    least_before, ratio_of_least = of(statistics.least_first_update, least)
    most_before, ratio = of(statistics.most_first_update, most)
    is_common = jnp.abs(ratio_of_least - ratio) <= 10.0 * SAME * ratio
    is_other = is_known & is_common & (jnp.abs(ratio - 1.0) > SAME)
    statistics = statistics._replace(
        least_first_update=least_before, most_first_update=most_before
    )
    return statistics, jnp.where(is_other, ratio, 1.0)


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
