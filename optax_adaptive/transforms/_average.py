"""The average of the parameters: how it follows, and what is measured meanwhile."""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from optax_adaptive._controller import Array
from optax_adaptive.signals import averaging_gap
from optax_adaptive.signals.update_size import largest_entry
from optax_adaptive.state.exportable import exportable
from optax_adaptive.state.snapshots import in_place
from optax_adaptive.state.tag import Tag
from optax_adaptive.state.trees import is_inexact, wide
from optax_adaptive.state.validation import is_concrete

# How many steps' parameters the average takes in over one half-life: at first those of
# every step, later of ever fewer. So it costs little, and the share of each is never so
# small, even at 1e7 steps, that float32 would lose it in rounding.
SAMPLES = 32
# The same with interpolation, where the average takes in those of every step for as
# long as float32 allows.
SAMPLES_INTERPOLATED = 2**14
MOST = 2**30  # the largest count of steps
GAP_EVERY = 4  # updates from gap to gap, where the average moves at each


@exportable
class AveragingState(NamedTuple):
    """The average, kept in float32 where params are coarser."""

    # dtype: at least float32; leaves that are not inexact are the newest, unchanged
    averaged_params: optax.Params
    # shape=(), dtype=int32: params to average since the last restart, including the
    # newest, which the next update takes in; keyed by whether they are interpolated
    averaged_steps: dict[str, Array]
    is_served: Array  # shape=(), dtype=bool: does eval_params give it, and not params?


def empty(params: optax.Params, tag: Tag) -> AveragingState:
    """Buffers of the right shapes; the contents of ``params`` are not read."""

    def zeros(leaf):  # sharded alike
        return jnp.zeros_like(leaf, wide(leaf.dtype) if is_inexact(leaf) else None)

    return AveragingState(
        averaged_params=jax.tree.map(zeros, params),
        averaged_steps=tag.wrap(jnp.zeros((), jnp.int32)),
        is_served=jnp.zeros((), jnp.bool_),
    )


class Pace(NamedTuple):
    """How far average and params move at an update.

    Params are y = (1 - b) z + b x for an interpolation b, the average x and the point z
    that the optimizer moves. It need not be stored: z - x = (y - x) / (1 - b). So where
    z moves by an update and x by a share w of the way to z, y moves by (1 - c) updates
    + w b / (1 - b) (y - x), with c = (1 - w) b, and x by w / (1 - c) of the way to the
    new y, which is where the next update finds it. At a restart all three are one.
    """

    # shape=(), dtype=int32: updates from one move of the average to the next
    every: Array
    share: Array  # shape=(), dtype=float32: of the way to params, for the average
    moved: Array  # shape=(), dtype=float32: of the update, for params
    followed: Array  # shape=(), dtype=float32: of params - average, for params


def pace(
    steps: Array, fraction: Any, interpolation: float | Array, *, samples: int
) -> Pace:
    """The pace after ``steps``, int32, with a half-life of ``fraction`` of them."""
    half_life = fraction * steps.astype(jnp.float32) + 1.0
    every = power_of_two((half_life / samples).astype(jnp.int32))
    share = -jnp.expm1(-math.log(2.0) * every.astype(jnp.float32) / half_life)
    moved = 1.0 - (1.0 - share) * interpolation
    return Pace(
        every=every,
        share=share / moved,
        moved=moved,
        followed=share * interpolation / (1.0 - interpolation),
    )


def pace_of_params(
    pace: Pace, count: Array, is_restarted: Array | np.bool_, ahead: Array
) -> Pace:
    """The pace where the average may stay, or is one with params; ``ahead`` is 1 - b.

    At updates at which the average does not move, nor do params towards it.
    """
    is_one = is_restarted | (count == 0)
    is_next = is_multiple(count, pace.every)
    moved = jnp.where(is_next, pace.moved, ahead)
    return pace._replace(
        moved=jnp.where(is_one, 1.0, moved),
        followed=jnp.where(is_one | ~is_next, 0.0, pace.followed),
    )


def follow(average: optax.Params, params: optax.Params, share: Array) -> optax.Params:
    """The average, moved by ``share`` of the way to ``params``."""

    def mix(mean, param):
        if not is_inexact(param):
            return param
        mixed = mean + share.astype(mean.dtype) * (param.astype(mean.dtype) - mean)
        return jnp.where(share == 1.0, param.astype(mean.dtype), mixed)  # may be NaN

    return jax.tree.map(mix, average, params)


class Seen(NamedTuple):
    """The average that has followed, and what was measured meanwhile."""

    average: optax.Params
    # shape=(), dtype=float32: 1, but known only once the average has moved. Updates
    # multiplied by it are computed after that, and XLA need not copy params first.
    after_average: Array
    gap: Array  # shape=(), dtype=float32: averaging gap; 0 if not measured
    has_gap: Array  # shape=(), dtype=bool
    displacement: Array  # shape=(), dtype=float32: of params; 0 if not calibrating


def take_in(
    average: optax.Params,
    params: optax.Params,
    grads: optax.Updates,
    *,
    share: Array,
    is_due: Array,
    is_calibrating: Array,
    is_test: Array,
    interpolates: bool,
    count: Array,
) -> Seen:
    """Moves the average by ``share`` of the way to params, if due, and measures.

    In a range test the average stays where it is, and the gap is measured at each
    update. With interpolation it moves at each update, fused with params, and the gap
    is measured at every fourth. Otherwise all is done in one loop.
    """
    zero = jnp.zeros((), jnp.float32)

    def displacement(average, params):
        measure = averaging_gap.displacement
        return averaging_gap.compute_if(measure, is_calibrating, average, params)

    if interpolates:
        has_gap = is_due & (count > 1) & is_multiple(count, GAP_EVERY) | is_test
        measure = averaging_gap.gap
        gap = averaging_gap.compute_if(measure, has_gap, average, params, grads)
        moved = displacement(average, params)
        after_average = _one_after(gap + moved)
        share = jnp.where(is_due, share, 0.0) * after_average
        average = follow(average, params, share)
    else:
        has_gap = is_due & (count > 1) | is_test
        share = jnp.where(is_test, 0.0, share)

        def move(carry):
            average, *_ = carry
            gap = averaging_gap.gap(average, params, grads)
            moved = displacement(average, params)
            average = follow(average, params, share)
            return average, gap, moved, largest_entry(average)

        start = average, zero, zero, zero
        average, gap, moved, entry = in_place(is_due | is_test, move, start)
        after_average = _one_after(entry)
    # The gap was measured before the average moved.
    gap = jnp.where(has_gap, gap * (1.0 - share), 0.0)
    return Seen(average, after_average, gap, has_gap, moved)


def _one_after(number: Array) -> Array:
    """1, but only once ``number`` is known.

    XLA computes what is multiplied by it after ``number``, and so may overwrite what
    the computation of ``number`` reads. Otherwise it would copy that first.
    """
    return jnp.where(jnp.isnan(number), 1.0 - 2.0**-23, 1.0)


def interpolate(
    updates: optax.Updates, average: optax.Params, params: optax.Params, pace: Pace
) -> optax.Updates:
    """The updates of interpolated params, from those of the optimizer."""

    def between(mean, param, update):
        if not is_inexact(param):
            return update
        ahead = param.astype(mean.dtype) - mean
        ahead = jnp.where(jnp.isnan(ahead), 0, ahead)  # from masks of -inf
        change = pace.moved.astype(mean.dtype) * update.astype(mean.dtype)
        change += pace.followed.astype(mean.dtype) * ahead
        return change.astype(update.dtype)

    return jax.tree.map(between, average, params, updates)


def interpolates(interpolation: float | Array) -> bool:
    return not is_concrete(interpolation) or bool(interpolation > 0)


def power_of_two(number: Array) -> Array:
    """The largest power of two that is not above ``number``, int32; 1 at least."""
    zeros = lax.clz(jnp.maximum(number, 1))
    return lax.shift_left(jnp.ones((), jnp.int32), 31 - zeros)


def is_multiple(number: Array, power: int | Array) -> Array:
    """Whether ``number`` is a multiple of ``power``, a power of two; both int32."""
    return number & (power - 1) == 0
