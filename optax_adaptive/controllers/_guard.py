"""What keeps a learner from doing harm: a lower bound on its gain, and a safe reach."""

from typing import NamedTuple

import jax.numpy as jnp

from optax_adaptive._controller import Array

FREE_WINDOWS = 50  # before the gain is judged
_DISCOUNT = 0.97  # what an old block is worth a block later
_Z = 1.5  # standard errors of the mean gain
_FADE = 0.5  # of the strength, a block
_GROWTH = 0.5  # of the reach, a block; halved with every rise of the loss
_RECOVERY = 1.2  # of the growth after a rise, a block: one false alarm is forgiven
_RETREAT = 0.5  # below an action at which the loss rose


class Moments(NamedTuple):
    """Discounted count, mean and squared deviations of advantages."""

    count: Array  # shape=(), dtype=float32
    mean: Array  # shape=(), dtype=float32
    m2: Array  # shape=(), dtype=float32


class Guard(NamedTuple):
    """Whether a learner's actions help, and its limits."""

    gain: Moments  # of the learner's own blocks over the no-op
    strength: Array  # shape=(), dtype=float32: factor on every action, in [0, 1]
    reach: Array  # shape=(), dtype=float32: largest action that is safe, in [-1, 1]
    growth: Array  # shape=(), dtype=float32: of the reach, a block


def first_guard() -> Guard:
    """The guard before the first block."""
    return Guard(
        gain=Moments(*(jnp.zeros((), jnp.float32) for _ in Moments._fields)),
        strength=jnp.ones((), jnp.float32),
        reach=jnp.array(-1.0, jnp.float32),
        growth=jnp.array(_GROWTH, jnp.float32),
    )


def limited(guard: Guard, action: Array) -> Array:
    """The action that is taken where the learner wants ``action``."""
    return jnp.minimum(guard.strength * action, guard.reach)


def lower_bound(guard: Guard) -> Array:
    """Of the mean gain, float32 of shape ``()``."""
    count = jnp.maximum(guard.gain.count, 1.0)
    variance = guard.gain.m2 / jnp.maximum(guard.gain.count - 1.0, 1.0)
    # The floor is the noise of an advantage, which is in its own unit.
    return guard.gain.mean - _Z * jnp.sqrt(jnp.maximum(variance, 1.0) / count)


def watch(
    guard: Guard,
    action: Array,
    advantage: Array,
    *,
    is_control: Array,
    is_rising: Array,
    is_blown_up: Array,
    is_judged: Array,
) -> Guard:
    """Takes in a block that is over.

    The strength fades to 0 unless the learner's own blocks earn more than the no-op, by
    the lower bound of their mean, and comes back once they do. The reach
    grows from the lowest action upwards, and falls back below an action at which the
    loss rose: some damage is never made good, so that a rate too large is best met from
    below.

    Args:
      guard: The guard so far.
      action: That of the block, float32 of shape ``()``.
      advantage: What it earned beside the no-op, float32 of shape ``()``.
      is_control: Whether the block was not the learner's but at the no-op.
      is_rising: Whether the loss rose in it beyond its noise.
      is_blown_up: Whether it had a window without a finite value.
      is_judged: Whether the first, free windows are over.

    Returns:
      The new guard.
    """
    new = guard._replace(gain=_add(guard.gain, advantage, ~is_control))
    target = (~is_judged | (lower_bound(new) > 0)).astype(jnp.float32)
    recovered = jnp.minimum(_RECOVERY * guard.growth, _GROWTH)
    growth = jnp.where(is_rising, guard.growth / 2, recovered)
    grown = jnp.maximum(guard.reach, action + growth)
    reach = jnp.where(is_rising, action - _RETREAT, grown)
    return new._replace(
        strength=target + _FADE * (guard.strength - target),
        reach=jnp.where(is_blown_up, -1.0, jnp.clip(reach, -1.0, 1.0)),
        growth=growth,
    )


def _add(moments: Moments, advantage: Array, is_counted: Array) -> Moments:
    """With discount, if it counts (West, 1979)."""
    weight = is_counted.astype(jnp.float32)
    discount = jnp.where(is_counted, _DISCOUNT, 1.0)
    count = discount * moments.count + weight
    delta = advantage - moments.mean
    mean = moments.mean + weight * delta / jnp.maximum(count, 1.0)
    m2 = discount * moments.m2 + weight * delta * (advantage - mean)
    return Moments(count, mean, m2)
