"""Rate correction: is the rate too high, or too low? Asked once a block of steps.

Two quantities are compared: the *averaging gap*, the loss of the parameters minus that
of their average, which grows with the rate; and the *decrease* of the loss over a
constant fraction of the elapsed time. If a loss decreases as a power of time, the two
are in a constant proportion at the best rate, as figures in
docs/research/autotune_experiments.md show over optimizers, batches and noise. At a rate
that is too low the newest parameters are ahead of their average, and the gap is below
0; at one that is too high the loss soon hovers about a level that its own noise sets.
Blocks in proportion to the time keep the answer as sharp late as early, and are few.
The same two quantities say how long an average is best.

Lowering the rate of a loss at rest is an old test (Yaida, 2018; Lang, Xiao and
Zhang, 2019). Alone it lowers good rates too: noise hides a slow descent.

Early on, the gap is small even at rates that later prove far too high. What shows then
is that the gradient *points back* to the parameters at which ``maintain`` began: the
slope of the loss from the average towards them is below 0 by a part of the whole
decrease. D-Adaptation (Defazio and Mishchenko, 2023) sums such products, to raise a
rate.
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
    power: float = 0.5  # of the ratio to the nearer bound, as the factor on the rate
    highest: float = 2.0  # largest factor of one change
    lowest: float = 0.1  # and the smallest
    # Largest factor on the half-life of the average; the smallest is one over it.
    widest: float = 2.0
    shortest: float = 0.0  # but no smaller than this
    back: float = 0.2  # -slope over total decrease above which the gradient points back
    # Gap over decrease below which even the shortest average, whose half-life is 5% of
    # the steps, lags by more than it saves. It lags by 0.05 / ln 2 of the steps, and
    # the decrease is that over two blocks, ln(16 / 9) in log time.
    lag: float = 0.125
    # Decrease over the loss, above which the loss has fallen to less than a tenth.
    fast: float = 9.0
    # Decrease over the loss, and over the total decrease, below which the loss is at
    # rest.
    rest: float = 0.1
    # Gap over a rise of the loss, below which the rise is not the rate's fault: the
    # loss of the average has risen as well, as when the data have become harder.
    explained: float = 0.5
    harm: float = 0.02  # gap over the total decrease, below which no restart is needed


class Block(NamedTuple):
    """A block of steps, and what it is compared with."""

    mean: Array  # shape=(), dtype=float32: of its losses, spikes cut
    decrease: Array  # shape=(), dtype=float32: of the mean, from two blocks ago to this
    error: Array  # shape=(), dtype=float32: standard error of the decrease
    total: Array  # shape=(), dtype=float32: decrease since the first parameters, >= 0
    gap: Array  # shape=(), dtype=float32: mean averaging gap
    slope: Array  # shape=(), dtype=float32: mean ``return_slope``


class Proposal(NamedTuple):
    """What a block proposes."""

    log_factor: Array  # shape=(), dtype=float32: natural, by which to change the rate
    points_back: Array  # shape=(), dtype=bool: does the gradient point back?
    is_harmful: Array  # shape=(), dtype=bool: is the gap large enough for a restart?
    is_at_rest: Array  # shape=(), dtype=bool: has the loss almost stopped decreasing?
    is_fast: Array  # shape=(), dtype=bool: does the loss decrease tenfold?
    half_life: Array  # shape=(), dtype=float32: factor on that of the average
    average_lags: Array  # shape=(), dtype=bool: is the average worse than params?


def propose(block: Block, settings: CorrectionSettings) -> Proposal:
    """Proposes a change of the rate, and a half-life of the average."""
    return Proposal(
        log_factor=_change(block, settings),
        points_back=block.slope < -settings.back * block.total,
        is_harmful=block.gap > settings.harm * block.total,
        is_at_rest=block.decrease
        < settings.rest * jnp.minimum(jnp.abs(block.mean), block.total),
        is_fast=block.decrease > settings.fast * jnp.abs(block.mean),
        half_life=_half_life(block, settings),
        # A gap of 0 is that of gradients that are all 0, and says nothing.
        average_lags=(block.gap != 0.0)
        & (block.gap < settings.lag * (block.decrease - settings.z * block.error)),
    )


def _change(block: Block, settings: CorrectionSettings) -> Array:
    """The log factor that moves the gap towards the nearer of its two bounds.

    It is the lowest allowed if the loss rises, but 0 if the loss rises by far more than
    the gap: that is not the rate's fault.
    """
    most = settings.high * (block.decrease + settings.z * block.error)
    # A gap that is no larger is no reason, not even where the loss has stood still.
    ratio = jnp.where(most > 0.0, most / jnp.maximum(block.gap, most), 0.0)
    lower = jnp.where(block.gap <= most, 1.0, ratio)
    least = settings.low * block.decrease
    gap = jnp.clip(block.gap, 1e-3 * least, least)
    higher = jnp.where(least > 0.0, least / gap, 1.0)
    change = settings.power * jnp.log(lower * higher)  # one of them is 1
    change = jnp.clip(change, math.log(settings.lowest), math.log(settings.highest))
    is_other = (most < 0.0) & (block.gap < -settings.explained * block.decrease)
    return jnp.where(is_other, 0.0, change)


def _half_life(block: Block, settings: CorrectionSettings) -> Array:
    """Factor on the half-life of the average: the root of the gap over the decrease.

    The lag of the average costs a part of the decrease in proportion to the half-life;
    the average leaves a part of the gap in inverse proportion to it. The root balances
    both.
    """
    ratio = block.gap / jnp.maximum(block.decrease, TINY)
    widest = settings.widest
    factor = jnp.sqrt(jnp.clip(ratio, widest**-2, widest**2))
    return jnp.maximum(factor, settings.shortest)
