"""Does the loss still fall? Means of blocks that grow with the elapsed time.

At a rate that is too large a run soon hovers about a level that its own noise sets,
while at a good one every stretch of a constant fraction of the elapsed time lowers
the loss, by little as it may be. Blocks in proportion to the time keep the test as
sharp late as early, and keep the number of tests logarithmic. After the stationarity
tests of Yaida (2018) and of Lang, Xiao and Zhang (2019).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from optax_adaptive import _history, _meter
from optax_adaptive._controller import Array

SHORTEST = 40  # steps of a block
SHARE = 0.25  # length of a block over the elapsed steps at its end
BLOCKS = 3  # compared: the newest with the oldest
Z_FALLING = 1.5  # fall, in its standard errors, below which there is none
Z_RISING = -1.0  # below which it is a rise
MOVED = 4.0  # deviations of the first loss, within which nothing much is learned yet


class Descent(NamedTuple):
    """The open block and the closed ones since the last change of the rate."""

    open_block: _meter.Meter
    means: Array  # shape=(BLOCKS,), dtype=float32: oldest first
    errors: Array  # shape=(BLOCKS,), dtype=float32: their standard errors
    blocks: Array  # shape=(), dtype=int32: closed so far


def block_steps(elapsed: Array) -> Array:
    """Length of a block that ends after so many steps, float32."""
    return jnp.maximum(SHARE * elapsed.astype(jnp.float32), SHORTEST)


def first_descent() -> Descent:
    """Before the first value, and again after each change of the rate."""
    return Descent(
        open_block=_meter.first("min"),
        means=jnp.zeros((BLOCKS,), jnp.float32),
        errors=jnp.zeros((BLOCKS,), jnp.float32),
        blocks=jnp.zeros((), jnp.int32),
    )


def watch(
    descent: Descent, value: Array, elapsed: Array, first_loss: Array, noise: Array
) -> tuple[Descent, Array]:
    """Adds a loss and says how far to lower the rate.

    Args:
      descent: The state.
      value: float32 loss, spikes clipped.
      elapsed: int32 steps, this one included.
      first_loss: float32 loss of the first parameters. Where it has not changed yet,
        nothing is learned, and to lower the rate would only starve the run.
      noise: float32 standard deviation of a value at the first parameters.

    Returns:
      The new state, and float32 of shape (): 0, but at the end of a block 1 if the loss
      has stopped falling and 2 if it rises; what follows is then judged on its own.
    """
    meter = _meter.accumulate(descent.open_block, value, jnp.ones((), jnp.bool_))
    descent = descent._replace(open_block=meter)
    is_full = meter.size.astype(jnp.float32) >= block_steps(elapsed)

    def close(descent: Descent) -> tuple[Descent, Array]:
        means = _history.push(descent.means, meter.mean)
        errors = _history.push(descent.errors, _meter.standard_error(meter))
        fall = means[0] - means[-1]
        error = jnp.hypot(errors[0], errors[-1])
        lower = jnp.where(fall < Z_RISING * error, 2.0, 1.0)
        has_moved = jnp.abs(meter.mean - first_loss) > MOVED * noise
        is_judged = has_moved & (descent.blocks >= BLOCKS - 1)
        lower = jnp.where(is_judged & (fall < Z_FALLING * error), lower, 0.0)
        closed = Descent(_meter.open_window(meter), means, errors, descent.blocks + 1)
        anew = first_descent()
        return jax.tree.map(
            lambda a, b: jnp.where(lower > 0.0, a, b), anew, closed
        ), lower

    def keep(descent: Descent) -> tuple[Descent, Array]:
        return descent, jnp.zeros((), jnp.float32)

    return lax.cond(is_full, close, keep, descent)
