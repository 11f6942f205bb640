"""What a block of windows at one action earned, beside what blocks earn on average.

Judged by the next loss a lower rate always looks better, since it cools noise. So the
change of rate itself is left out: an action is held for a block of windows, and judged
by the fall of the loss from the first window *within* the block to the last.
"""

from typing import NamedTuple

import jax.numpy as jnp

from optax_adaptive._controller import Array, Observation
from optax_adaptive.state.trees import select

CLIP = 3.0  # combined standard errors that a block can earn or cost
RISE = 2.5  # standard errors above the block before, which end a block
INSTABILITY = 1.0  # what such a rise costs, beside the rise itself
BLOW_UP = 10.0  # what a window without a finite value costs
_MEMORY = 0.3  # weight of the newest block in what is expected
_NOISE = 0.2  # and of the newest validation in its noise


class Reading(NamedTuple):
    """A metric and how sure it is."""

    value: Array  # shape=(), dtype=float32
    error: Array  # shape=(), dtype=float32


class Track(NamedTuple):
    """A metric, in the open block and before it."""

    first: Reading  # of this block
    newest: Reading  # of all
    before: Reading  # the newest when this block began
    is_read: Array  # shape=(), dtype=bool: is there a reading in this block?


class Block(NamedTuple):
    """The open block, and what those before it have been like."""

    windows: Array  # shape=(), dtype=int32: in this block
    loss: Track  # of a window
    validation: Track  # of what is given to observe()
    validations: Array  # shape=(), dtype=int32: so far; then they alone are rewarded
    is_blown_up: Array  # shape=(), dtype=bool: is there a window of value inf?
    blocks: Array  # shape=(), dtype=int32: this one included
    expected: Array  # shape=(), dtype=float32: mean fall in a block, times its index
    has_expected: Array  # shape=(), dtype=bool


def _first_track() -> Track:
    def reading():
        return Reading(jnp.zeros((), jnp.float32), jnp.zeros((), jnp.float32))

    return Track(reading(), reading(), reading(), jnp.zeros((), jnp.bool_))


def first_block() -> Block:
    """The block before the first window."""
    return Block(
        windows=jnp.zeros((), jnp.int32),
        loss=_first_track(),
        validation=_first_track(),
        validations=jnp.zeros((), jnp.int32),
        is_blown_up=jnp.zeros((), jnp.bool_),
        blocks=jnp.ones((), jnp.int32),
        expected=jnp.zeros((), jnp.float32),
        has_expected=jnp.zeros((), jnp.bool_),
    )


def read(block: Block, observation: Observation) -> Block:
    """Takes a window into the open block."""
    is_finite = jnp.isfinite(observation.value)
    validations = block.validations + observation.is_validated.astype(jnp.int32)
    # A validation has no error of its own: that of the changes between them, if any.
    last = block.validation.newest
    weight = jnp.where(validations > 2, _NOISE, 1.0)
    change = jnp.abs(observation.validation - last.value)
    noise = last.error + weight * (change - last.error)
    noise = jnp.where(validations > 1, noise, 0.0)
    loss = Reading(observation.value, observation.standard_error[-1])
    validation = Reading(observation.validation, noise)
    # The first of all is compared with itself.
    is_first = observation.is_validated & (validations == 1)
    before = select(is_first, validation, block.validation.before)
    return block._replace(
        windows=block.windows + 1,
        loss=_follow(block.loss, loss, is_finite),
        validation=_follow(
            block.validation._replace(before=before),
            validation,
            observation.is_validated,
        ),
        validations=validations,
        is_blown_up=block.is_blown_up | ~is_finite,
    )


def _follow(track: Track, reading: Reading, is_new: Array) -> Track:
    return track._replace(
        first=select(is_new & ~track.is_read, reading, track.first),
        newest=select(is_new, reading, track.newest),
        is_read=track.is_read | is_new,
    )


def _rewarded(block: Block) -> tuple[Track, Reading]:
    """The metric that counts, and the reading that its fall is measured from."""
    validates = block.validations > 0
    track = select(validates, block.validation, block.loss)
    return track, select(validates, track.before, track.first)


def is_rising(block: Block) -> Array:
    """Whether the loss or the validation metric rose beyond its noise.

    Above the end of the block before; or a window blew up. Where the metric is handed
    in the loss still has its say: it is there at every window, and knows its noise.
    """

    def rises(track):
        error = jnp.hypot(track.before.error, track.newest.error)
        rise = track.newest.value - track.before.value
        return track.is_read & (error > 0) & (rise > RISE * error)

    is_known = block.blocks > 1
    return block.is_blown_up | (
        is_known & (rises(block.loss) | rises(block.validation))
    )


def is_over(block: Block, size: int | Array) -> Array:
    """Whether the block has its ``size`` windows, or cannot go on."""
    track, _ = _rewarded(block)
    return ((block.windows >= size) & track.is_read) | is_rising(block)


def close(block: Block) -> tuple[Array, Block]:
    """Ends a block: its advantage over the blocks before it, and an empty block.

    The mean that is taken off makes it the reward of a *differential* problem: what
    counts is which actions do better than those so far (Wan, Naik and Sutton, `Learning
    and planning in average-reward Markov decision processes
    <https://arxiv.org/abs/2006.16318>`_, 2021).

    Args:
      block: A block that is over.

    Returns:
      ``clip((fall - expected) / error, ±3)``, or 0 where there was no block before, or
      nothing to read in this one; less 1 for a rise beyond the noise and 10 for a
      blow-up. And the next block.
    """
    track, start = _rewarded(block)
    fall = start.value - track.newest.value
    error = jnp.hypot(start.error, track.newest.error)
    # A loss that goes as -log t falls by 1 / t in a block, and so does the expected.
    index = block.blocks.astype(jnp.float32)
    surplus = fall - block.expected / index
    advantage = jnp.clip(_in_errors(surplus, error), -CLIP, CLIP)
    advantage = jnp.where(block.has_expected & track.is_read, advantage, 0.0)
    advantage -= INSTABILITY * is_rising(block).astype(jnp.float32)
    advantage -= BLOW_UP * block.is_blown_up.astype(jnp.float32)
    is_calm = track.is_read & ~block.is_blown_up
    weight = jnp.where(block.has_expected, _MEMORY, 1.0)
    expected = block.expected + weight * (fall * index - block.expected)

    def opened(track):
        return _first_track()._replace(newest=track.newest, before=track.newest)

    return advantage, first_block()._replace(
        loss=opened(block.loss),
        validation=opened(block.validation),
        validations=block.validations,
        blocks=block.blocks + 1,
        expected=jnp.where(is_calm, jnp.clip(expected, -1e37, 1e37), block.expected),
        has_expected=block.has_expected | is_calm,
    )


def _in_errors(numerator: Array, denominator: Array) -> Array:
    """The quotient; over 0, plus or minus ``CLIP`` by the sign of the numerator."""
    is_positive = denominator > 0
    safe = jnp.where(is_positive, denominator, 1.0)
    return jnp.where(is_positive, numerator / safe, jnp.sign(numerator) * CLIP)
