"""Is the average better than the newest parameters? By how much, sets the rate.

To first order, (parameters - average) · gradient is the loss of the parameters above
that of their average: what noise and oscillation cost, and averaging takes away. Below
0 the newest parameters are still ahead of their average: the rate is too low for
anything but progress to be seen. In proportion to the progress made so far it has no
unit, and near the best rate it hardly depends on optimizer, batch and noise: figures
are in docs/autotune.md.

Inner products with gradients have long told the two regimes apart: of successive ones
(Pflug, 1983; Chee and Toulis, 2018), and of the way from a start (Pesme, Dieuleveut and
Flammarion, 2020). There they only ever lower a rate.
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from optax_adaptive import _descent
from optax_adaptive._averaging import AveragingState
from optax_adaptive._controller import Array

EVERY = 4  # steps from one product to the next: it reads all parameters
FIRST = 150  # steps held before the first change: until then the average is short
LOW, HIGH = 0.05, 0.2  # gain over progress, between which the rate is left alone
POWER = 0.5  # of the ratio to the nearer bound, by which the rate is changed
HIGHEST, LOWEST = 2.0, 10.0**-0.5  # factors on it, at once


class Gain(NamedTuple):
    """Sums over the open block; each of shape () and float32."""

    products: Array
    samples: Array  # number of products
    losses: Array
    steps: Array  # number of losses
    last_loss: Array  # mean of the block before


def first_gain() -> Gain:
    """An empty block."""
    return Gain(*(jnp.zeros((), jnp.float32) for _ in Gain._fields))


def is_due(elapsed: Array) -> Array:
    """Whether a product is asked for after so many steps, bool."""
    return elapsed % EVERY == 0


def product(averaging: AveragingState, params: optax.Params, grads: Any) -> Array:
    """(params - average) · gradient, float32 of shape ()."""

    def of_leaf(param, mean, grad):
        ahead = param.astype(mean.dtype) - mean
        return jnp.vdot(grad.astype(mean.dtype), ahead).real.astype(jnp.float32)

    products = jax.tree.map(of_leaf, params, averaging.averaged_params, grads)
    return sum(jax.tree.leaves(products), start=jnp.zeros((), jnp.float32))


def watch(
    gain: Gain,
    value: Array,
    product: Array,
    elapsed: Array,
    first_loss: Array,
    noise: Array,
    *,
    is_sample: Array,
) -> tuple[Gain, Array]:
    """Adds a loss and a product, and says how far to change the rate.

    Args:
      gain: The state.
      value: float32 loss, spikes clipped.
      product: float32, from :func:`product`.
      elapsed: int32 steps, this one included.
      first_loss: float32 loss of the first parameters.
      noise: float32 standard deviation of a value there: less progress is none.
      is_sample: bool, whether ``product`` was asked for, and counts.

    Returns:
      The new state, and the natural logarithm of the factor, float32 of shape (): 0
      but at the end of a block.
    """
    is_sample &= jnp.isfinite(product)
    gain = Gain(
        products=gain.products + jnp.where(is_sample, product, 0.0),
        samples=gain.samples + is_sample.astype(jnp.float32),
        losses=gain.losses + value,
        steps=gain.steps + 1.0,
        last_loss=gain.last_loss,
    )
    loss = gain.losses / gain.steps
    progress = first_loss - loss
    mean = gain.products / jnp.maximum(gain.samples, 1.0)
    # So little that is not there, or so much, is out of every bound.
    ratio = jnp.clip(mean / jnp.maximum(progress, noise), 1e-3 * LOW, 1e3 * HIGH)
    change = POWER * jnp.log(jnp.clip(ratio, LOW, HIGH) / ratio)
    change = jnp.clip(change, math.log(LOWEST), math.log(HIGHEST))
    # Where the loss is as low as it gets, progress is all behind, and no measure of
    # what noise may cost: only less than what the last block won is worth a raise.
    change = jnp.where(mean < gain.last_loss - loss, change, jnp.minimum(change, 0.0))
    is_full = gain.steps >= _descent.block_steps(elapsed)
    is_known = (progress > noise) & (gain.samples > 0.0) & (elapsed >= FIRST)
    change = jnp.where(is_full & is_known, change, 0.0)
    fresh = first_gain()._replace(last_loss=loss)
    gain = jax.tree.map(lambda new, old: jnp.where(is_full, new, old), fresh, gain)
    return gain, change
