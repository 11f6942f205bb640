"""The spike detector: does the loss rise by more than its noise explains?"""

from typing import NamedTuple

import jax.numpy as jnp

from optax_adaptive._controller import Array
from optax_adaptive.signals.window_statistics import LARGEST
from optax_adaptive.state.trees import saturating_add

FAST = 0.1  # weight of the newest value in the fast average
SLOW = 0.02  # and in the slow one, and in the variance
CLIP = 5.0  # standard deviations above the slow average, at which values are cut
WILD = 100.0  # the same, while too few values say what is normal
TIMES = 10.0  # sizes of the loss, added to WILD, above which a batch is not used
MOST_FAR = 3  # such batches in a row; after more, the parameters are bad
# Standard deviations between the averages. Clipped values raise these as well, so
# at least thirty in a row are needed. Mostly the level shows a rise first: after 5
# values at step 100, 14 at 3,000, 33 at 30,000.
RISE = 2.5
# The same above what is normal: seven standard errors of ``fast``. A few events among
# equal losses have a small standard deviation at most times. So it counts in the usual
# one, or in that of the newest values, up to NOISIER times the usual one.
MEAN_RISE = 1.5
NOISIER = 8.0
DRIFT = 4.0  # standard errors on either side of the level
LOOK_BACK = 0.05  # of the elapsed time, over which the level averages
LEAST = 1e-5  # weight of a value in the level
WARM_UP = 20  # values before the first signal
FEWEST = 3  # values before any is cut
# Non-finite values in a row that are a spike. Their updates are skipped, so waiting for
# that many costs only their steps, and a few bad batches are no spike.
NONFINITE = 10
# Steps without a copy after a rollback or a raise: a blow-up may be under way.
QUIET = 100


class SpikeDetector(NamedTuple):
    """Running statistics of the loss: robust averages over different times."""

    seen: Array  # shape=(), dtype=int32: values so far
    fast: Array  # shape=(), dtype=float32: over about 10 values
    slow: Array  # shape=(), dtype=float32: over about 50 values
    standard_deviation: (
        Array  # shape=(), dtype=float32: of single values around the fast average
    )
    level: Array  # shape=(), dtype=float32: over a twentieth of all values
    noise: Array  # shape=(), dtype=float32: mean standard deviation over as many
    ceiling: Array  # shape=(), dtype=float32: lowest upper bound of the level so far
    nonfinite: Array  # shape=(), dtype=int32: newest non-finite values in a row
    far: Array  # shape=(), dtype=int32: newest values in a row far above the usual


class Signal(NamedTuple):
    """What the newest value says."""

    is_spike: Array  # shape=(), dtype=bool: ten non-finite values, or a rise: roll back
    is_calm: Array  # shape=(), dtype=bool: as good as ever, worth a snapshot
    # shape=(), dtype=bool: finite, and not wildly above what is normal
    is_usable: Array
    is_finite: Array  # shape=(), dtype=bool
    unspiked: Array  # shape=(), dtype=float32: the value, cut where it is a spike
    lowest_level: Array  # shape=(), dtype=float32: lower bound of the level
    # shape=(), dtype=float32: upper bound of a normal level; LARGEST while not known
    normal: Array


def first_detector() -> SpikeDetector:
    """The detector before the first value."""
    return SpikeDetector(
        seen=jnp.zeros((), jnp.int32),
        fast=jnp.zeros((), jnp.float32),
        slow=jnp.zeros((), jnp.float32),
        standard_deviation=jnp.zeros((), jnp.float32),
        level=jnp.zeros((), jnp.float32),
        noise=jnp.zeros((), jnp.float32),
        ceiling=jnp.zeros((), jnp.float32),
        nonfinite=jnp.zeros((), jnp.int32),
        far=jnp.zeros((), jnp.int32),
    )


def watch(
    detector: SpikeDetector, value: Array, width: Array | float = 1.0
) -> tuple[SpikeDetector, Signal]:
    """Adds ``value``, a float32 loss of any sign, and judges it.

    The level may be ``width`` times as far off as the noise of single values says: it
    is if these depend on one another. Spikes are clipped, so that one bad batch,
    however high its loss, is no blow-up. Nor are a few non-finite values: their updates
    can be skipped.
    """
    is_finite = jnp.abs(value) <= LARGEST  # NaN compares false
    before = newest_noise(detector)
    # Values that were all exactly 0 do not say how large others may be.
    has_scale = before > 0.0
    wild = detector.slow + WILD * before
    wild = jnp.where((detector.seen >= FEWEST) & has_scale, wild, LARGEST)
    highest = detector.slow + CLIP * before
    is_known = (detector.seen >= WARM_UP // 2) & has_scale
    highest = jnp.where(is_known, highest, wild)
    # Far values, of which there may be a few in a row, say nothing about the noise.
    is_far = is_finite & (value > wild + TIMES * jnp.abs(detector.slow))
    far = jnp.where(is_far, detector.far + 1, 0)
    is_usable = is_finite & ((far == 0) | (far > MOST_FAR))
    clipped = jnp.where(is_usable, jnp.minimum(value, highest), detector.slow)

    elapsed = detector.seen.astype(jnp.float32)
    plain = 1.0 / (elapsed + 1.0)  # of a plain mean, until an average is as long
    slow_weight = jnp.maximum(SLOW, plain)
    level_weight = jnp.maximum(plain, 1.0 / (LOOK_BACK * elapsed + 5.0))
    level_weight = jnp.maximum(level_weight, LEAST)  # less is lost in rounding
    fast = detector.fast + jnp.maximum(FAST, plain) * (clipped - detector.fast)
    slow = detector.slow + slow_weight * (clipped - detector.slow)
    spread = jnp.where(detector.seen > 0, jnp.abs(clipped - detector.fast), 0.0)
    # A mean square, of which only the root is kept: squares would overflow.
    spread = jnp.sqrt(slow_weight) * spread
    standard_deviation = jnp.hypot(
        jnp.sqrt(1.0 - slow_weight) * detector.standard_deviation, spread
    )
    level = detector.level + level_weight * (clipped - detector.level)
    is_early = detector.seen < WARM_UP

    new = SpikeDetector(
        # A first value that is not finite would stand in the averages as 0.
        seen=saturating_add(detector.seen, is_finite | (detector.seen > 0)),
        fast=fast,
        slow=slow,
        standard_deviation=standard_deviation,
        level=level,
        noise=detector.noise + level_weight * (standard_deviation - detector.noise),
        ceiling=detector.ceiling,
        nonfinite=jnp.where(is_finite, 0, detector.nonfinite + 1),
        far=far,
    )
    noise = newest_noise(new)
    # The error of an exponential average of weight w is sqrt(w / 2) of a value's.
    error = width * noise * jnp.sqrt(level_weight / 2.0)
    # Bounds, not the lowest level: the lowest of many levels is low by luck.
    lowest, bound = level - DRIFT * error, level + DRIFT * error
    ceiling = jnp.where(is_early, bound, jnp.minimum(detector.ceiling, bound))
    is_rise = (fast > slow + RISE * noise) | (lowest > ceiling)
    is_calm = (fast <= slow + noise) & (level <= ceiling)
    signal = Signal(
        is_spike=(is_rise & ~is_early) | (new.nonfinite >= NONFINITE),
        is_calm=is_calm & is_finite,
        is_usable=is_usable,
        is_finite=is_finite,
        unspiked=jnp.where(is_finite, clipped, value),
        lowest_level=lowest,
        normal=jnp.where(is_early, LARGEST, ceiling),
    )
    return new._replace(ceiling=ceiling), signal


def newest_noise(detector: SpikeDetector) -> Array:
    """The standard deviation plus what float32 resolves: rounding is no rise."""
    return detector.standard_deviation + 1e-6 * jnp.abs(detector.slow)


def next_snapshot(
    now: Array, planned: Array, is_taken: Array, is_risky: Array
) -> Array:
    """The step from which a copy may be taken again, int32.

    At growing intervals copies cost next to nothing, and a return to one loses a tenth
    of the run at most.
    """
    planned = jnp.where(is_taken, saturating_add(now, now // 10 + 10), planned)
    return jnp.where(is_risky, saturating_add(now, QUIET), planned)
