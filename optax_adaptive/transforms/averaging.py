"""Averaged parameters for evaluation: annealing that needs no total_steps."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from optax_adaptive._controller import (
    PROBE_CALIBRATION,
    PROBE_RANGE_TEST,
    PROBE_TRIAL,
    Array,
)
from optax_adaptive.state import snapshots
from optax_adaptive.state.devices import AVERAGE_GRADIENTS, check_same_on_devices
from optax_adaptive.state.exportable import exportable
from optax_adaptive.state.placement import beside
from optax_adaptive.state.tag import Tag
from optax_adaptive.state.trees import (
    as_arrays,
    is_inexact,
    multiply,
    nodes_of,
    over_leading_axes,
)
from optax_adaptive.state.validation import (
    check_leaves,
    check_one,
    check_optimizer,
    check_params,
    check_range,
    check_same,
    check_state,
)
from optax_adaptive.transforms import _average, _rules
from optax_adaptive.transforms._average import AveragingState
from optax_adaptive.transforms._eager import compiled
from optax_adaptive.transforms._measured import Measured, check_no_sam, handed_down


@exportable
class WithAveragingState(NamedTuple):
    """State of :func:`with_averaging`, and of :func:`autotune`."""

    inner_state: Any
    averaging: AveragingState


def with_averaging(
    optimizer: optax.GradientTransformation,
    *,
    fraction: float | Array = 0.05,
    interpolation: float | Array = 0.0,
) -> optax.GradientTransformationExtraArgs:
    """Keeps an average of the parameters, for evaluation, beside any optimizer.

    Training does not change unless ``interpolation`` is above 0. The average is
    exponential, with a half-life that grows in proportion to the elapsed time: at any
    moment it is about as good as parameters whose learning rate was annealed until
    then. Per half-life it takes in the parameters of 32 to 64 steps, or of every step
    if there are fewer or ``interpolation`` is above 0. When a :func:`with_rollback`
    inside rolls back, the average begins anew from the restored parameters; while a
    rule inside tests a range of rates, :func:`eval_params` gives the parameters from
    before the test.

    Rules inside are handed the averaging gap, ``Observation.averaging_gap``, and may
    ask for another half-life (see :class:`Request`). The gap is measured at steps at
    which the average moves, with ``interpolation`` at every fourth (under ``vmap`` at
    every step), and takes two passes over params, average and gradients. Do not
    accumulate gradients inside: put ``optax.MultiSteps`` around. Gradients must be
    those of the ``value`` that rules see: for gradients of a sum, pass the sum, or the
    gap is off by a factor.

    Memory: one copy of params, in float32 where they are coarser.

    Args:
      optimizer: Any optimizer, with its learning rate. Use the result outermost: its
        updates must be what is added to the parameters.
      fraction: Half-life as a fraction of the steps so far, greater than 0. Smaller
        follows faster, larger averages more noise away.
      interpolation: Where params lie, and gradients are taken, from the point that the
        optimizer moves, 0, to the average, 1; in [0, 1). Above 0 it replaces momentum,
        as in Schedule-Free: give an optimizer without it, such as
        ``optax.adam(1e-3, b1=0.0)``, a larger ``fraction``, 0.1 or 0.2, and parameters
        of float32, since their rounding error grows by 1 / (1 - interpolation). In
        ``optax.inject_hyperparams`` name it in ``static_args``.

    Returns:
      A transformation; read the average with :func:`eval_params`.

    Raises:
      ValueError: If ``fraction`` or ``interpolation`` is out of range; if ``init``
        finds an average or SAM inside, or ``update`` is given no params, updates of
        another structure or other shapes than theirs, or gradients that vary over a
        mesh axis.
      TypeError: If ``optimizer`` is not a gradient transformation, or, in ``init``, if
        a leaf of the params is not an array.

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
      (0.8, 0.9)

    Reference:
      Defazio et al., `The Road Less Scheduled <https://arxiv.org/abs/2405.15682>`_,
      2024.
    """
    check_optimizer(optimizer)
    optimizer = optax.with_extra_args_support(optimizer)
    check_range("fraction", fraction, 0.0, open_low=True)
    check_range("interpolation", interpolation, 0.0, 1.0, open_high=True)

    interpolates = _average.interpolates(interpolation)
    kind = "interpolated" if interpolates else "plain"
    tag = Tag("the kind of average in the state", kind)
    samples = _average.SAMPLES_INTERPOLATED if interpolates else _average.SAMPLES

    def pace(count, asked, interpolated):
        # With jax_enable_x64, fraction may be float64; the state must not be.
        part = jnp.float32(fraction) * asked.half_life
        return _average.pace(count, part, interpolated, samples=samples)

    def interpolation_in(asked):
        # A trial is plain, so that its gap shows all of the noise.
        is_trial = asked.probe == PROBE_TRIAL
        return jnp.where(is_trial, 0.0, jnp.float32(interpolation))

    def init_fn(params):
        params = as_arrays(params)
        check_leaves(params)
        inner_state = optimizer.init(params)
        check_no_sam(inner_state)
        if find_all(inner_state):
            raise ValueError(
                "the optimizer inside with_averaging keeps an average already: once is "
                "enough, and autotune does so by itself"
            )
        return beside(
            params, WithAveragingState(inner_state, _average.empty(params, tag))
        )

    def update_fn(updates, state, params=None, *, measured=None, **extra_args):
        check_state("with_averaging or autotune", state, WithAveragingState)
        check_params(updates, params)
        updates, params = as_arrays((updates, params))
        inner_state, averaging = state
        check_same("the average", averaging.averaged_params, params)
        check_same_on_devices(
            "gradients", updates, averaging.is_served, AVERAGE_GRADIENTS
        )
        # Else XLA moves the computation of gradients into the conditional that uses it.
        updates = lax.optimization_barrier(updates)
        asked_before = _rules.requests(inner_state)
        interpolated = interpolation_in(asked_before)
        # How many params there are to average, including those handed in.
        count = tag.unwrap(averaging.averaged_steps)
        last = pace(count - 1, asked_before, interpolated)
        # While there are none, the average is the params before this update.
        is_due = (count == 0) | _average.is_multiple(count - 1, last.every)
        # A range test moves params far: the average keeps those before it to evaluate.
        is_test = (asked_before.probe == PROBE_RANGE_TEST) & averaging.is_served
        is_due &= ~is_test
        seen = _average.take_in(
            averaging.averaged_params,
            params,
            updates,
            share=jnp.where(count < 2, 1.0, last.share),
            is_due=is_due,
            is_calibrating=asked_before.probe == PROBE_CALIBRATION,
            is_test=is_test,
            interpolates=interpolates,
            count=count,
        )
        # Rules need not know of an interpolation, with which a run tolerates more
        # noise: they get the geometric mean of the gap of params and that of the point
        # that the optimizer moves, which is larger in proportion (docs/research).
        measured = Measured() if measured is None else measured  # of a wrapper around
        measured = measured._replace(
            averaging_gap=seen.gap / jnp.sqrt(1.0 - interpolated),
            has_gap=seen.has_gap,
            average=seen.average,
            displacement=seen.displacement,
            return_slope=None,  # which with_rollback measures inside
        )
        extras = handed_down(extra_args, measured)
        updates, inner_state = optimizer.update(updates, inner_state, params, **extras)
        asked = _rules.requests(inner_state)
        is_probe = (asked.probe > 0) & (asked.probe < PROBE_TRIAL)
        # What led to a blow-up must not enter the average.
        is_restarted = is_probe
        for snapshot in snapshots.find_all(inner_state):
            is_restarted |= snapshot.is_restored
        if interpolates:
            before, interpolated = interpolated, interpolation_in(asked)
            # At the end of a trial, params and their average become one.
            is_restarted |= before < interpolated
            now = pace(count, asked, interpolated)
            now = _average.pace_of_params(now, count, is_restarted, 1.0 - interpolated)
            updates = _average.interpolate(updates, seen.average, params, now)
        updates = multiply(updates, seen.after_average)
        # The count is halved before it overflows, and the half-life with it.
        count = jnp.where(count < _average.MOST, count + 1, _average.MOST // 2)
        count = jnp.where(is_restarted, 0, count)
        count += (is_restarted & ~is_probe).astype(jnp.int32)  # the copy is the first
        is_served = jnp.where(
            is_probe,
            asked.probe > PROBE_CALIBRATION,
            (count > 1) & ~asked.average_lags,
        )
        averaging = AveragingState(seen.average, tag.wrap(count), is_served)
        return updates, WithAveragingState(inner_state, averaging)

    return optax.GradientTransformationExtraArgs(init_fn, compiled(update_fn))


def eval_params(opt_state: Any, params: optax.Params) -> optax.Params:
    """Reads the averaged parameters, in the dtypes of ``params``.

    Batch-norm statistics of the current params do not fit the averaged ones: see
    :func:`recompute_batch_stats`.

    Args:
      opt_state: The state of an optimizer that contains :func:`autotune` or
        :func:`with_averaging`, once.
      params: The current parameters, returned while there is no average yet, and where
        :func:`autotune` finds that the average lags. Leaves that the optimizer was not
        given, by ``optax.partition`` or as None, and integers are returned as they are,
        not copied, so this may be a whole Equinox model. With leading axes on state and
        parameters, as from ``jax.vmap``, the average of each run is read.

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
    check_one("with_averaging or autotune", len(found))
    (state,) = found
    (is_served,) = jax.tree.leaves(state.is_served)
    leaves, structure = jax.tree.flatten(params)
    means = _means(state.averaged_params, params)
    _check_leaves(means, leaves)
    # Integers have no average, nor have leaves of a model that are not arrays.
    own = [place for place, mean in enumerate(means) if mean is not leaves[place]]
    arrays = as_arrays({place: leaves[place] for place in own})
    places = [place for place in own if is_inexact(arrays[place])]
    means, averaged = ([tree[place] for place in places] for tree in (means, arrays))
    for mean, leaf in zip(means, averaged, strict=True):
        if jnp.shape(mean) != jnp.shape(leaf):
            raise ValueError(
                f"params must be those that the optimizer was given, but a leaf of "
                f"shape {jnp.shape(leaf)} has an average of shape {jnp.shape(mean)}"
            )

    # Without 64-bit mode, those of NumPy in float64 become float32.
    dtypes = [jax.dtypes.canonicalize_dtype(leaf.dtype) for leaf in averaged]

    # The average of a mask of -inf is NaN: handled here, that costs no training step.
    def read(is_served, leaves, means):
        return [
            jnp.where(is_served & ~jnp.isnan(mean), mean.astype(dtype), leaf)
            for leaf, mean, dtype in zip(leaves, means, dtypes, strict=True)
        ]

    read = over_leading_axes(read, is_served.ndim)
    averaged = read(is_served, averaged, means)
    for place, leaf in zip(places, averaged, strict=True):
        leaves[place] = leaf
    return jax.tree.unflatten(structure, leaves)


def find_all(opt_state: Any) -> list[AveragingState]:
    """Every average in use in ``opt_state``, without those in copies for rollback."""
    return nodes_of(opt_state, AveragingState, stop=snapshots.SnapshotState)


def _check_leaves(means: list[Any], leaves: list[Any]) -> None:
    """Raises ValueError unless there is a mean for each leaf."""
    size = sum(map(np.size, leaves))
    is_vector = list(map(np.shape, means)) == [(size,)]
    if is_vector and list(map(np.shape, leaves)) != [(size,)]:
        raise ValueError(
            "the average is one vector, and params are not: if optax.flatten is around "
            "the optimizer, put it inside, as in autotune(optax.flatten(optimizer))"
        )
    if len(means) != len(leaves):
        raise ValueError(
            f"params must be those that the optimizer was given, of {len(means)} "
            f"leaves, but they have {len(leaves)}; if an Equinox model was filtered "
            "for the optimizer, pass the same part"
        )


def _means(averaged_params: Any, params: optax.Params) -> list[Any]:
    """Leaves of the average, or params themselves where the optimizer had none."""

    def is_masked(node):
        return isinstance(node, optax.MaskedNode) or node is None

    means = jax.tree.leaves(averaged_params)
    # Wrappers of params, as in nnx, are not in the average: by leaves, if possible.
    if len(means) == len(jax.tree.leaves(params)):
        return means
    means, structure = jax.tree.flatten(averaged_params, is_leaf=is_masked)
    try:
        parts = structure.flatten_up_to(params)
    except ValueError:  # other params: their number of leaves is reported
        return jax.tree.leaves(averaged_params)
    pairs = zip(means, parts, strict=True)
    return jax.tree.leaves([p if is_masked(mean) else mean for mean, p in pairs])
