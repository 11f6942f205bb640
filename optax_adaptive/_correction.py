"""Is the rate that is held too high, or too low? Asked once a block, of its losses.

Two things are set against each other. *What noise costs* (``_noise_cost.py``): the loss
of the parameters above that of their average, which grows with the rate. *What is still
won*: the fall of the loss over a constant fraction of the elapsed time. Where a loss
falls as a power of time, the two are in a constant proportion at the best rate, and
figures in docs/autotune_experiments.md bear that out over optimizers, batches and
noise. At a rate that is too low the newest parameters are ahead of their average, and
noise costs less than nothing; at one that is too high the loss soon hovers about a
level that its own noise sets. Blocks in proportion to the time keep the answer as sharp
late as early, and are few. The same two say how long an average is best.

That a loss at rest calls for a lower rate is an old test (Yaida, 2018; Lang, Xiao and
Zhang, 2019). Alone it lowers good rates too: noise hides a slow descent.

Early, noise costs little even at rates that prove far too high later. What shows there
is that *the way back leads down*: (first parameters - average) · gradient, which is the
slope of the loss along the way back to them, is below 0 by a part of all that was won.
D-Adaptation (Defazio and Mishchenko, 2023) sums such products, to raise a rate.
"""

import math
from typing import NamedTuple

import jax.numpy as jnp
import optax

from optax_adaptive import _history, _meter
from optax_adaptive._controller import Array

SHORTEST = 40  # steps of a block
SHARE = 0.25  # length of a block over the elapsed steps at its end
BLOCKS = 3  # the fall is that of the newest below the oldest
LOW, HIGH = 0.25, 1.0  # cost over fall, between which the rate is left alone
HIGH_INTERPOLATED = 2.0  # gradients in between feel a part of the noise alone
Z = 2.0  # standard errors by which a fall may be larger than it seems
POWER = 0.5  # of the ratio to the nearer bound, by which the rate is changed
HIGHEST, LOWEST = 2.0, 0.1  # factors at once
WIDEST = 2.0  # factor on the half-life of the average, and one over the narrowest
BACK = 0.2  # slope of the way back, over what was won, below which it leads down
# What the shortest average, of half-life a twentieth, costs in falls: 0.05 / ln 2, over
# the half of the time in which the loss falls by one.
LAG = 0.125
FAST = 9.0  # fall over the loss above which that is less than a tenth of what it was
REST = 0.1  # fall, over the loss or all that was won, below which it is nearly at rest
TINY = 1e-30


class Judgement(NamedTuple):
    """What the losses of a block say of the rate; nothing but at its end."""

    log_factor: Array  # shape=(), dtype=float32: natural, by which to change it
    leads_back: Array  # shape=(), dtype=bool: does the way back lead down?
    is_at_rest: Array  # shape=(), dtype=bool: is there next to nothing left to win?
    is_fast: Array  # shape=(), dtype=bool: does the loss fall by orders of magnitude?


class Correction(NamedTuple):
    """The open block, and the closed ones."""

    losses: _meter.Meter  # of the open block, and what noise costs in it
    ways_back: Array  # shape=(), dtype=float32: their sum in it
    means: Array  # shape=(BLOCKS,), dtype=float32: of losses, oldest first
    errors: Array  # shape=(BLOCKS,), dtype=float32: their standard errors
    blocks: Array  # shape=(), dtype=int32: closed so far
    half_life: Array  # shape=(), dtype=float32: factor on that of the average
    is_behind: Array  # shape=(), dtype=bool: is the average worse than the newest?


def block_steps(elapsed: Array) -> Array:
    """Length of a block that ends after so many steps, float32."""
    return jnp.maximum(SHARE * elapsed.astype(jnp.float32), SHORTEST)


def first_correction() -> Correction:
    """Before the first value, and again after a return."""
    return Correction(
        losses=_meter.first("min"),
        ways_back=jnp.zeros((), jnp.float32),
        means=jnp.zeros((BLOCKS,), jnp.float32),
        errors=jnp.zeros((BLOCKS,), jnp.float32),
        blocks=jnp.zeros((), jnp.int32),
        half_life=jnp.ones((), jnp.float32),
        is_behind=jnp.zeros((), jnp.bool_),
    )


def watch(
    correction: Correction,
    value: Array,
    product: Array,
    way_back: Array,
    elapsed: Array,
    first_loss: Array,
    noise: Array,
    *,
    is_sample: Array,
    high: float,
) -> tuple[Correction, Judgement]:
    """Adds a loss and two products, and judges the rate at the end of a block.

    Args:
      correction: The state.
      value: float32 loss, spikes clipped.
      product: float32, from ``_noise_cost.measure``: what noise costs.
      way_back: float32, from the same, of the first parameters in place of the newest.
      elapsed: int32 steps, this one included.
      first_loss: float32 loss of the first parameters. Where it has not changed yet,
        nothing is learned, and there is nothing to judge by.
      noise: float32 standard deviation of a value there: a smaller change is none.
      is_sample: bool, whether the products were asked for, and count.
      high: The upper bound, ``HIGH`` or ``HIGH_INTERPOLATED``.

    Returns:
      The new state with its ``half_life``, and the judgement.
    """
    losses = _meter.accumulate(correction.losses, value, jnp.ones((), jnp.bool_))
    counts = is_sample & (jnp.abs(product) <= _meter.LARGEST)  # NaN compares false
    counts &= jnp.abs(way_back) <= _meter.LARGEST
    losses = _meter.add_cost(losses, product, counts)
    ways_back = correction.ways_back + jnp.where(counts, way_back, 0.0)
    correction = correction._replace(losses=losses, ways_back=ways_back)
    is_full = losses.size.astype(jnp.float32) >= block_steps(elapsed)
    means = _history.push(correction.means, losses.mean)
    errors = _history.push(correction.errors, _meter.standard_error(losses))
    blocks = correction.blocks + 1
    has_moved = jnp.abs(first_loss - losses.mean) > noise
    is_judged = is_full & has_moved & (blocks >= BLOCKS) & (losses.costs_size > 0)
    cost = _meter.mean_cost(losses)
    fall, error = means[0] - means[-1], jnp.hypot(errors[0], errors[-1])
    back = ways_back / jnp.maximum(losses.costs_size, 1).astype(jnp.float32)
    won = jnp.maximum(first_loss - losses.mean, 0.0)
    closed = Correction(
        losses=_meter.open_window(losses),
        ways_back=jnp.zeros((), jnp.float32),
        means=means,
        errors=errors,
        blocks=blocks,
        half_life=jnp.where(is_judged, _half_life(cost, fall), correction.half_life),
        is_behind=is_judged & (cost < LAG * (fall - Z * error)),
    )
    # A few scalars: to compute them at every step costs less than a conditional.
    correction = optax.tree.where(is_full, closed, correction)
    return correction, Judgement(
        log_factor=jnp.where(is_judged, _change(cost, fall, error, high), 0.0),
        leads_back=is_judged & (back < -BACK * won),
        is_at_rest=fall < REST * jnp.minimum(jnp.abs(losses.mean), won),
        is_fast=fall > FAST * jnp.abs(losses.mean),
    )


def _change(cost: Array, fall: Array, error: Array, high: float) -> Array:
    """Towards the nearer bound, as log factor; all the way down if the loss rises."""
    most = high * (fall + Z * error)  # what noise may cost
    lower = jnp.where(most > 0.0, most / jnp.maximum(cost, most), 0.0)
    least = LOW * fall
    higher = jnp.where(least > 0.0, least / jnp.clip(cost, 1e-3 * least, least), 1.0)
    change = POWER * jnp.log(lower * higher)  # one of them is 1
    return jnp.clip(change, math.log(LOWEST), math.log(HIGHEST))


def _half_life(cost: Array, fall: Array) -> Array:
    """Factor on how long to average: the root of what noise costs, over the fall.

    An average lags behind, which costs a part of the fall as large as it is long, and
    leaves a part of the noise that is one over that.
    """
    ratio = cost / jnp.maximum(fall, TINY)
    return jnp.sqrt(jnp.clip(ratio, WIDEST**-2, WIDEST**2))
