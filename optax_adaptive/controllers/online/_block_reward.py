"""The block reward: the decrease of the loss in a block, less that of an average one.

Judged by the next loss, a lower learning rate always looks better, since it reduces the
noise at once. So the change of the learning rate itself is skipped: an action lasts for
a block of windows, and its reward is the decrease of the loss from the first window
*within* the block to the last.
"""

from typing import NamedTuple

import jax.numpy as jnp

from optax_adaptive._controller import Array, Observation
from optax_adaptive.controllers.online.settings import OnlineSettings
from optax_adaptive.state.trees import saturating_add, select


class Reading(NamedTuple):
    """A metric and its standard error."""

    value: Array  # shape=(), dtype=float32
    error: Array  # shape=(), dtype=float32


class Track(NamedTuple):
    """A metric, in the open block and before it."""

    first: Reading  # of this block
    newest: Reading  # of all
    before: Reading  # the newest when this block started
    is_read: Array  # shape=(), dtype=bool: is there a reading in this block?


class Block(NamedTuple):
    """The open block, and the average of those before it."""

    windows: Array  # shape=(), dtype=int32: in this block
    loss: Track  # of a window
    validation: Track  # of what is given to observe()
    validations: Array  # shape=(), dtype=int32: so far; if any, only they are rewarded
    is_blown_up: Array  # shape=(), dtype=bool: is there a window of value inf?
    blocks: Array  # shape=(), dtype=int32: this one included
    expected: Array  # shape=(), dtype=float32: mean decrease times block index
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


def add_window(
    block: Block, observation: Observation, settings: OnlineSettings
) -> Block:
    """The open block with one window more."""
    is_finite = jnp.isfinite(observation.value)
    validations = saturating_add(block.validations, observation.is_validated)
    # A validation has no standard error: its noise is the mean change between them.
    last = block.validation.newest
    weight = jnp.where(validations > 2, settings.validation_weight, 1.0)
    change = jnp.abs(observation.validation - last.value)
    noise = last.error + weight * (change - last.error)
    noise = jnp.where(validations > 1, noise, 0.0)
    loss = Reading(observation.value, observation.standard_error[-1])
    validation = Reading(observation.validation, noise)
    # The first validation of all is compared with itself.
    is_first = observation.is_validated & (validations == 1)
    before = select(is_first, validation, block.validation.before)
    return block._replace(
        windows=saturating_add(block.windows, 1),
        loss=_with_reading(block.loss, loss, is_finite),
        validation=_with_reading(
            block.validation._replace(before=before),
            validation,
            observation.is_validated,
        ),
        validations=validations,
        is_blown_up=block.is_blown_up | ~is_finite,
    )


def _with_reading(track: Track, reading: Reading, is_new: Array) -> Track:
    return track._replace(
        first=select(is_new & ~track.is_read, reading, track.first),
        newest=select(is_new, reading, track.newest),
        is_read=track.is_read | is_new,
    )


def _rewarded(block: Block) -> tuple[Track, Reading]:
    """The metric that is rewarded, and the reading its decrease is measured from."""
    validates = block.validations > 0
    track = select(validates, block.validation, block.loss)
    return track, select(validates, track.before, track.first)


def is_rising(block: Block, settings: OnlineSettings) -> Array:
    """Whether the loss or the validation metric rose beyond its noise, or blew up.

    A rise is measured from the end of the block before. The loss counts even if there
    are validations: every window has a loss, with a standard error.
    """

    def rises(track):
        error = jnp.hypot(track.before.error, track.newest.error)
        rise = track.newest.value - track.before.value
        return track.is_read & (error > 0) & (rise > settings.rise_errors * error)

    has_before = block.blocks > 1
    return block.is_blown_up | (
        has_before & (rises(block.loss) | rises(block.validation))
    )


def is_over(block: Block, size: int | Array, settings: OnlineSettings) -> Array:
    """Whether the block has its ``size`` windows, or cannot go on.

    It waits for a validation, once there was one, but not for ever: whoever stops
    validating would leave the learner at one action.
    """
    track, _ = _rewarded(block)
    is_full = (block.windows >= size) & track.is_read
    is_full |= block.windows >= settings.longest_wait * size
    return is_full | is_rising(block, settings)


def close(block: Block, settings: OnlineSettings) -> tuple[Array, Block]:
    """Ends a block: its reward, and an empty block.

    With the mean subtracted it is the reward of a *differential* problem: actions are
    compared with those so far (Wan, Naik and Sutton, `Learning and planning in
    average-reward Markov decision processes <https://arxiv.org/abs/2006.16318>`_,
    2021).

    Args:
      block: A block that is over.
      settings: Constants.

    Returns:
      ``clip((decrease - expected) / error, ±3)``, or 0 if there was no block before or
      no reading in this one; minus 1 for a rise beyond the noise, or 11 for a blow-up,
      which counts as a rise too. And the next block.
    """
    track, start = _rewarded(block)
    decrease = start.value - track.newest.value
    error = jnp.hypot(start.error, track.newest.error)
    # A loss that goes as -log t falls by 1 / t in a block, and is expected to.
    index = block.blocks.astype(jnp.float32)
    surplus = decrease - block.expected / index
    clip = settings.reward_clip
    reward = jnp.clip(_in_errors(surplus, error, clip), -clip, clip)
    reward = jnp.where(block.has_expected & track.is_read, reward, 0.0)
    rises = is_rising(block, settings).astype(jnp.float32)
    reward -= settings.rise_penalty * rises
    reward -= settings.blow_up_penalty * block.is_blown_up.astype(jnp.float32)
    if settings.rewards_raw_decrease:
        reward = block.loss.before.value - block.loss.newest.value
    is_calm = track.is_read & ~block.is_blown_up
    weight = jnp.where(block.has_expected, settings.baseline_weight, 1.0)
    expected = block.expected + weight * (decrease * index - block.expected)
    return reward, first_block()._replace(
        loss=_reopened(block.loss),
        validation=_reopened(block.validation),
        validations=block.validations,
        blocks=saturating_add(block.blocks, 1),
        expected=jnp.where(is_calm, jnp.clip(expected, -1e37, 1e37), block.expected),
        has_expected=block.has_expected | is_calm,
    )


def _reopened(track: Track) -> Track:
    return _first_track()._replace(newest=track.newest, before=track.newest)


def _in_errors(numerator: Array, denominator: Array, clip: float) -> Array:
    """The quotient; over 0, plus or minus ``clip`` by the sign of the numerator."""
    is_positive = denominator > 0
    safe = jnp.where(is_positive, denominator, 1.0)
    return jnp.where(is_positive, numerator / safe, jnp.sign(numerator) * clip)
