"""What a block of windows at one action earned, beside what blocks earn on average.

Judged by the next loss a lower rate always looks better, since it cools noise. So the
change of rate itself is left out: an action is held for a block of windows, and judged
by the fall of the loss from the first window *within* the block to the last.
"""

from typing import NamedTuple

import jax.numpy as jnp
import optax

from optax_adaptive._controller import Array, Observation

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


class Block(NamedTuple):
    """The open block, and what those before it have been like."""

    windows: Array  # shape=(), dtype=int32: in this block
    first: Reading  # of this block
    newest: Reading  # of all
    before: Reading  # the newest when this block began
    is_read: Array  # shape=(), dtype=bool: is there a reading in this block?
    is_blown_up: Array  # shape=(), dtype=bool: or a window of value inf?
    validations: Array  # shape=(), dtype=int32: so far; then they alone are read
    blocks: Array  # shape=(), dtype=int32: this one included
    expected: Array  # shape=(), dtype=float32: mean fall in a block, times its index
    has_expected: Array  # shape=(), dtype=bool


def first_block() -> Block:
    """The block before the first window."""

    def reading():
        return Reading(jnp.zeros((), jnp.float32), jnp.zeros((), jnp.float32))

    return Block(
        windows=jnp.zeros((), jnp.int32),
        first=reading(),
        newest=reading(),
        before=reading(),
        is_read=jnp.zeros((), jnp.bool_),
        is_blown_up=jnp.zeros((), jnp.bool_),
        validations=jnp.zeros((), jnp.int32),
        blocks=jnp.ones((), jnp.int32),
        expected=jnp.zeros((), jnp.float32),
        has_expected=jnp.zeros((), jnp.bool_),
    )


def read(block: Block, observation: Observation) -> Block:
    """Takes a window into the open block."""
    is_finite = jnp.isfinite(observation.value)
    validations = block.validations + observation.is_validated.astype(jnp.int32)
    validates = validations > 0
    is_read = jnp.where(validates, observation.is_validated, is_finite)
    # A validation has no error of its own: that of the changes between them, if any.
    change = jnp.abs(observation.validation - block.newest.value)
    weight = jnp.where(validations > 2, _NOISE, 1.0)
    noise = block.newest.error + weight * (change - block.newest.error)
    noise = jnp.where(validations > 1, noise, 0.0)
    reading = Reading(
        value=jnp.where(validates, observation.validation, observation.value),
        error=jnp.where(validates, noise, observation.standard_error[-1]),
    )
    newest = optax.tree.where(is_read, reading, block.newest)
    return block._replace(
        windows=block.windows + 1,
        first=optax.tree.where(is_read & ~block.is_read, reading, block.first),
        newest=newest,
        # The first validation of all is compared with itself, not with a loss.
        before=optax.tree.where(
            observation.is_validated & (validations == 1), reading, block.before
        ),
        is_read=block.is_read | is_read,
        is_blown_up=block.is_blown_up | ~is_finite,
        validations=validations,
    )


def is_rising(block: Block) -> Array:
    """Whether the loss is higher than at the end of the block before, beyond noise."""
    error = jnp.hypot(block.before.error, block.newest.error)
    rise = block.newest.value - block.before.value
    is_known = block.is_read & (block.blocks > 1) & (error > 0)
    return block.is_blown_up | (is_known & (rise > RISE * error))


def is_over(block: Block, size: int | Array) -> Array:
    """Whether the block has its ``size`` windows, or cannot go on."""
    return ((block.windows >= size) & block.is_read) | is_rising(block)


def close(block: Block) -> tuple[Array, Block]:
    """Ends a block: its advantage over the blocks before it, and an empty block.

    The mean that is taken off makes it the reward of a *differential* problem: what
    counts is which actions do better than those so far (Wan, Naik and Sutton, `Learning
    and planning in average-reward Markov decision processes
    <https://arxiv.org/abs/2006.16318>`_, 2021).

    Args:
      block: A block that is over.

    Returns:
      ``clip((fall - expected) / error, ±3)``, less 1 for a rise beyond the noise and
      10 for a blow-up; 0 as long as there was none before. And the next block.
    """
    start = optax.tree.where(block.validations > 0, block.before, block.first)
    fall = start.value - block.newest.value
    error = jnp.hypot(start.error, block.newest.error)
    # A loss that goes as -log t falls by 1 / t in a block, and so does the expected.
    index = block.blocks.astype(jnp.float32)
    surplus = fall - block.expected / index
    advantage = jnp.clip(_in_errors(surplus, error), -CLIP, CLIP)
    advantage = jnp.where(block.has_expected, advantage, 0.0)
    advantage -= INSTABILITY * is_rising(block).astype(jnp.float32)
    advantage -= BLOW_UP * block.is_blown_up.astype(jnp.float32)
    is_calm = block.is_read & ~block.is_blown_up
    weight = jnp.where(block.has_expected, _MEMORY, 1.0)
    expected = block.expected + weight * (fall * index - block.expected)
    return advantage, first_block()._replace(
        newest=block.newest,
        before=block.newest,
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
