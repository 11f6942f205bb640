"""Averaged parameters for evaluation: annealing that needs no horizon."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax

from optax_adaptive import _noise_cost, _snapshot
from optax_adaptive._controller import Array
from optax_adaptive._leaves import as_arrays, over_leading_axes, wide
from optax_adaptive._validate import check_optimizer, check_range, is_concrete


class AveragingState(NamedTuple):
    """The average, kept in float32 where params are coarser."""

    averaged_params: optax.Params  # dtype: at least float32
    averaged_steps: Array  # shape=(), dtype=int32: since the last restart; -1: empty
    is_behind: Array  # shape=(), dtype=bool: known to be worse than params, by autotune


def empty(params: optax.Params) -> AveragingState:
    """Buffers of the right shapes; the contents of ``params`` are not read."""

    def zeros(leaf):  # sharded alike
        return jnp.zeros_like(leaf, wide(leaf.dtype))

    return AveragingState(
        averaged_params=jax.tree.map(zeros, params),
        averaged_steps=jnp.array(-1, jnp.int32),
        is_behind=jnp.zeros((), jnp.bool_),
    )


def average(
    state: AveragingState,
    params: optax.Params,
    updates: optax.Updates,
    *,
    fraction: float | Array,
    interpolation: float | Array,
    is_restarted: Array,
) -> tuple[optax.Updates, AveragingState]:
    """Adds what ``updates`` lead to, to the average; params go in between.

    The half-life is ``fraction`` of the steps since the restart, and never below one
    step: so old parameters are forgotten at the pace at which training slows down.

    With ``interpolation`` b, params are y = (1 - b) z + b x for the average x and the
    point z that the optimizer moves. It need not be stored: z - x = (y - x) / (1 - b).
    So z moves by ``updates``, and where x moves by a share w of the way to z, y moves
    by (1 - c) updates + w b / (1 - b) (y - x), with c = (1 - w) b, and x by
    w / (1 - c) of the way to the new y. At a restart all three are one.

    Returns:
      The updates of params, which differ where they are interpolated; the new average.
    """
    interpolates = not is_concrete(interpolation) or interpolation > 0
    restarts = is_restarted | (state.averaged_steps < 0)
    steps = jnp.where(restarts, 0, state.averaged_steps)
    half_life = fraction * steps.astype(jnp.float32) + 1.0
    share = jnp.where(restarts, 1.0, 1.0 - jnp.exp2(-1.0 / half_life))
    moved = 1.0 - (1.0 - share) * interpolation
    followed = share * interpolation / (1.0 - interpolation)

    def between(mean, param, update):
        ahead = jnp.where(restarts, 0, param.astype(mean.dtype) - mean)
        ahead = jnp.where(jnp.isnan(ahead), 0, ahead)  # of masks of -inf
        change = moved.astype(mean.dtype) * update.astype(mean.dtype)
        change += followed.astype(mean.dtype) * ahead
        return change.astype(update.dtype)

    # By way of the new params, which the caller computes in any case: so XLA need not
    # keep the old ones.
    def mix(mean, param, update):
        newest = param.astype(mean.dtype) + update.astype(mean.dtype)
        mixed = mean + (share / moved).astype(mean.dtype) * (newest - mean)
        return jnp.where(restarts, newest, mixed)  # the old mean may be NaN

    if interpolates:
        updates = jax.tree.map(between, state.averaged_params, params, updates)
    mean = jax.tree.map(mix, state.averaged_params, params, updates)
    return updates, state._replace(averaged_params=mean, averaged_steps=steps + 1)


def with_averaging(
    optimizer: optax.GradientTransformation,
    *,
    fraction: float | Array = 0.05,
    interpolation: float | Array = 0.0,
) -> optax.GradientTransformationExtraArgs:
    """Keeps an average of the parameters, for evaluation, beside any optimizer.

    Training is not changed, unless ``interpolation`` asks for it. The average is
    exponential, with a half-life that grows in proportion to the elapsed time: at any
    moment it is about as good as parameters whose learning rate was annealed until
    then. Where a :func:`with_rollback` inside goes back, it starts again from the
    restored parameters. Rules inside are told what noise costs, by the keyword
    ``noise_cost`` of ``update``: ``Observation.noise_cost``. That takes a pass over
    params, average and gradients at every fourth step (at every one under ``vmap``),
    and gradients that are not accumulated inside: ``optax.MultiSteps`` belongs around.

    Memory: one copy of params, in float32 where they are coarser.

    Args:
      optimizer: Any optimizer, with its learning rate, outermost (its updates must be
        what is added to the parameters).
      fraction: Half-life as a fraction of the steps so far, greater than 0. Smaller
        follows faster, larger averages more noise away.
      interpolation: How far from what the optimizer moves towards the average params
        are, and so gradients are taken, in [0, 1). Greater than 0 it takes the place of
        momentum, as in Schedule-Free: give it an optimizer without, such as
        ``optax.adam(1e-3, b1=0.0)``, a larger ``fraction``, 0.1 or 0.2, and
        parameters of float32: their rounding counts 1 / (1 - interpolation) times.

    Returns:
      A transformation; read the average with :func:`eval_params`.

    Raises:
      ValueError: If ``fraction`` or ``interpolation`` is out of range; if ``init``
        finds an average inside already, or ``update`` is given no params.
      TypeError: If ``optimizer`` is none.

    Example:
      >>> import jax.numpy as jnp, optax, optax_adaptive
      >>> tx = optax_adaptive.with_averaging(optax.sgd(0.1))
      >>> params = jnp.array(1.0)
      >>> state = tx.init(params)
      >>> for _ in range(2):
      ...     updates, state = tx.update(jnp.array(1.0), state, params)
      ...     params = optax.apply_updates(params, updates)
      >>> evaluated = optax_adaptive.eval_params(state, params)
      >>> round(float(params), 2), round(float(evaluated), 2)
      (0.8, 0.85)

    Reference:
      Defazio et al., `The Road Less Scheduled <https://arxiv.org/abs/2405.15682>`_,
      2024.
    """
    check_optimizer(optimizer)
    optimizer = optax.with_extra_args_support(optimizer)
    check_range("fraction", fraction, 0.0, open_low=True)
    check_range("interpolation", interpolation, 0.0, 1.0, open_high=True)

    def init_fn(params):
        params = as_arrays(params)
        inner_state = optimizer.init(params)
        if find_all(inner_state):
            raise ValueError(
                "the optimizer inside with_averaging keeps an average already: once is "
                "enough, and autotune does so by itself"
            )
        return (inner_state, empty(params))

    def update_fn(updates, state, params=None, **extra_args):
        if params is None:
            raise ValueError("update() needs the argument `params`")
        updates, params = as_arrays((updates, params))
        inner_state, averaging = state
        # Or XLA moves what computes gradients into the conditional that uses them.
        updates = lax.optimization_barrier(updates)
        steps = averaging.averaged_steps
        cost = _noise_cost.measure(
            averaging.averaged_params,
            *(params, updates),
            is_measured=(steps >= 0) & _noise_cost.is_due(steps),
            interpolation=interpolation,
        )
        extras = _noise_cost.told(extra_args, cost, interpolation)
        updates, inner_state = optimizer.update(updates, inner_state, params, **extras)
        # What led to a blow-up is no part of the average.
        is_restarted = jnp.zeros((), jnp.bool_)
        for snapshot in _snapshot.find_all(inner_state):
            is_restarted |= snapshot.is_restored
        updates, averaging = average(
            averaging,
            params,
            updates,
            fraction=fraction,
            interpolation=interpolation,
            is_restarted=is_restarted,
        )
        return updates, (inner_state, averaging)

    return optax.GradientTransformationExtraArgs(init_fn, update_fn)


def eval_params(opt_state: Any, params: optax.Params) -> optax.Params:
    """Reads the averaged parameters, in the dtypes of ``params``.

    Batch-norm statistics of the current params do not fit them: see
    :func:`recompute_batch_stats`.

    Args:
      opt_state: The state of an optimizer that contains :func:`autotune` or
        :func:`with_averaging`, once.
      params: The current parameters, returned while there is no average yet, and where
        :func:`autotune` finds it behind. Of state and parameters with leading axes, as
        from ``jax.vmap``, each is read by itself.

    Returns:
      Parameters to evaluate, save or serve; training continues from ``params``.

    Raises:
      ValueError: If the state holds no average, or more than one, or one of other
        params.

    Example:
      >>> import jax.numpy as jnp, optax, optax_adaptive
      >>> tx = optax_adaptive.with_averaging(optax.sgd(0.1))
      >>> params = jnp.array([1.0, 2.0])
      >>> optax_adaptive.eval_params(tx.init(params), params).tolist()
      [1.0, 2.0]
    """
    found = find_all(opt_state)
    if len(found) != 1:
        raise ValueError(
            f"expected one with_averaging or autotune in this optimizer state, found "
            f"{len(found)}"
        )
    (state,) = found
    steps, is_behind = jax.tree.leaves((state.averaged_steps, state.is_behind))
    leaves, structure = jax.tree.flatten(as_arrays(params))
    means = _means(state.averaged_params, params)
    if len(means) != len(leaves):
        raise ValueError(
            f"params must be those that the optimizer was given, of {len(means)} "
            f"leaves, but they have {len(leaves)}"
        )
    for mean, leaf in zip(means, leaves, strict=True):
        if jnp.shape(mean) != jnp.shape(leaf):
            raise ValueError(
                f"params must be those that the optimizer was given, but a leaf of "
                f"shape {jnp.shape(leaf)} has an average of shape {jnp.shape(mean)}"
            )

    # Of masks of -inf the average is NaN: to see to that here costs no training step.
    def read(is_read, leaves, means):
        return [
            jnp.where(is_read & ~jnp.isnan(mean), mean.astype(leaf.dtype), leaf)
            if jnp.issubdtype(leaf.dtype, jnp.inexact)
            else leaf  # of integers there is no average
            for leaf, mean in zip(leaves, means, strict=True)
        ]

    # By leaves: what wraps params, as in nnx, does not wrap the average.
    read = over_leading_axes(read, steps.ndim)
    is_read = (steps >= 0) & ~is_behind
    return jax.tree.unflatten(structure, read(is_read, leaves, means))


def find_all(opt_state: Any) -> list[AveragingState]:
    """Every average in use in ``opt_state``."""

    def is_end(node):  # of the search: a copy for rollback is no average in use
        return isinstance(node, (AveragingState, _snapshot.SnapshotState))

    leaves = jax.tree.leaves(opt_state, is_leaf=is_end)
    return [leaf for leaf in leaves if isinstance(leaf, AveragingState)]


def _means(averaged_params: Any, params: optax.Params) -> list[Any]:
    """The average by leaves; of what ``optax.partition`` masks, params themselves."""

    def is_masked(node):
        return isinstance(node, optax.MaskedNode)

    means, structure = jax.tree.flatten(averaged_params, is_leaf=is_masked)
    if not any(map(is_masked, means)):
        return means
    pairs = zip(means, structure.flatten_up_to(params), strict=True)
    return jax.tree.leaves([p if is_masked(mean) else mean for mean, p in pairs])
