"""Rate correction: is the rate too high, or too low? Asked once a block of steps.

Two things are set against each other: the *averaging gap*, the loss of the parameters
above that of their average, which grows with the rate; and the *decrease* of the loss
over a constant fraction of the elapsed time. Where a loss decreases as a power of time,
the two are in a constant proportion at the best rate, as figures in
docs/research/autotune_experiments.md show over optimizers, batches and noise. At a rate
that is too low the newest parameters are ahead of their average, and the gap is below
0; at one that is too high the loss soon hovers about a level that its own noise sets.
Blocks in proportion to the time keep the answer as sharp late as early, and are few.
The same two say how long an average is best.

That a loss at rest calls for a lower rate is an old test (Yaida, 2018; Lang, Xiao and
Zhang, 2019). Alone it lowers good rates too: noise hides a slow descent.

Early, the gap is small even at rates that prove far too high later. What shows there is
that the gradient *points back* to the first parameters: the slope of the loss along the
way there from the average is below 0 by a part of the whole decrease. D-Adaptation
(Defazio and Mishchenko, 2023) sums such products, to raise a rate.
"""

import math
from typing import NamedTuple

import jax.numpy as jnp

from optax_adaptive._controller import Array

BLOCKS = 3  # the decrease is that of the newest below the oldest
TINY = 1e-30


class CorrectionSettings(NamedTuple):
    """Constants of a rate correction."""

    low: float = 0.25  # gap over decrease, below which the rate goes up
    high: float = 1.0  # and above which it comes down
    z: float = 2.0  # standard errors by which a decrease may be larger than it seems
    power: float = 0.5  # of the ratio to the nearer bound, by which the rate is changed
    highest: float = 2.0  # factor at once
    lowest: float = 0.1
    # Largest factor on the half-life of the average; the smallest is one over it.
    widest: float = 2.0
    shortest: float = 0.0  # but no smaller than this
    back: float = 0.2  # slope over decrease, below minus which the gradient points back
    # Gap over decrease below which even the shortest average, whose half-life is 5% of
    # the steps, lags by more than it saves. It lags by 0.05 / ln 2 of the steps, and
    # the decrease is that over ln(16 / 9) in log time, from block to block but one.
    lag: float = 0.125
    # Decrease over the loss, above which that has become less than a tenth of itself.
    fast: float = 9.0
    # Decrease over the loss, and over the total decrease, below which the loss is at
    # rest.
    rest: float = 0.1
    # Gap over a rise of the loss, below which the rise is not the rate's fault: the
    # loss of the average has risen as well, as where the data have become harder.
    explained: float = 0.5
    harm: float = 0.02  # gap over the total decrease, below which no restart is needed


class Block(NamedTuple):
    """A block of steps, and what it is compared with."""

    mean: Array  # shape=(), dtype=float32: of its losses, spikes cut
    decrease: Array  # shape=(), dtype=float32: since the block before the last
    error: Array  # shape=(), dtype=float32: standard error of the decrease
    total: Array  # shape=(), dtype=float32: decrease since the first parameters, >= 0
    gap: Array  # shape=(), dtype=float32: mean averaging gap
    slope: Array  # shape=(), dtype=float32: mean slope towards the first parameters


class Proposal(NamedTuple):
    """What the losses of a block say."""

    log_factor: Array  # shape=(), dtype=float32: natural, by which to change the rate
    points_back: Array  # shape=(), dtype=bool: does the gradient, to the first params?
    is_harmful: Array  # shape=(), dtype=bool: is the gap a part of the whole decrease?
    is_at_rest: Array  # shape=(), dtype=bool: is next to nothing left to gain?
    is_fast: Array  # shape=(), dtype=bool: does the loss decrease tenfold?
    half_life: Array  # shape=(), dtype=float32: factor on that of the average
    average_lags: Array  # shape=(), dtype=bool: is the average worse than the newest?


def propose(block: Block, settings: CorrectionSettings) -> Proposal:
    """Proposes a change of the rate, and an average."""
    return Proposal(
        log_factor=_change(block, settings),
        points_back=block.slope < -settings.back * block.total,
        is_harmful=block.gap > settings.harm * block.total,
        is_at_rest=block.decrease
        < settings.rest * jnp.minimum(jnp.abs(block.mean), block.total),
        is_fast=block.decrease > settings.fast * jnp.abs(block.mean),
        half_life=_half_life(block, settings),
        average_lags=block.gap
        < settings.lag * (block.decrease - settings.z * block.error),
    )


def _change(block: Block, settings: CorrectionSettings) -> Array:
    """The log factor that moves the gap towards the nearer of its two bounds.

    As low as allowed if the loss rises; 0 if it rises by far more than the gap, which
    is not the rate's fault.
    """
    most = settings.high * (block.decrease + settings.z * block.error)
    lower = jnp.where(most > 0.0, most / jnp.maximum(block.gap, most), 0.0)
    least = settings.low * block.decrease
    gap = jnp.clip(block.gap, 1e-3 * least, least)
    higher = jnp.where(least > 0.0, least / gap, 1.0)
    change = settings.power * jnp.log(lower * higher)  # one of them is 1
    change = jnp.clip(change, math.log(settings.lowest), math.log(settings.highest))
    is_other = (most < 0.0) & (block.gap < -settings.explained * block.decrease)
    return jnp.where(is_other, 0.0, change)


def _half_life(block: Block, settings: CorrectionSettings) -> Array:
    """Factor on the half-life of the average: the root of the gap over the decrease.

    The average lags, which costs a part of the decrease in proportion to its half-life.
    Of the gap it leaves a part in inverse proportion to that. The root balances both.
    """
    ratio = block.gap / jnp.maximum(block.decrease, TINY)
    widest = settings.widest
    factor = jnp.sqrt(jnp.clip(ratio, widest**-2, widest**2))
    return jnp.maximum(factor, settings.shortest)
