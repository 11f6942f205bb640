"""What noise costs: the loss of the parameters above that of their average.

To first order that is (parameters - average) · gradient. Noise and oscillation make it,
and averaging takes it away. Below 0 the newest parameters are still ahead of their
average: the rate is too low for anything but progress to be seen.

Inner products with gradients have long told the two regimes apart: of successive ones
(Pflug, 1983; Chee and Toulis, 2018), and of the way from a start (Pesme, Dieuleveut and
Flammarion, 2020). There they only ever lower a rate.
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from optax_adaptive._averaging import AveragingState
from optax_adaptive._controller import Array

EVERY = 4  # steps from one product to the next: it reads all parameters


def is_due(elapsed: Array) -> Array:
    """Whether a product is asked for after so many steps, bool."""
    return elapsed % EVERY == 0


def product(averaging: AveragingState, params: optax.Params, grads: Any) -> Array:
    """(params - average) · gradient, float32 of shape ()."""

    def of_leaf(param, mean, grad):
        ahead = param.astype(mean.dtype) - mean
        products = grad.astype(mean.dtype).conj() * ahead
        return jnp.sum(products).real.astype(jnp.float32)

    products = jax.tree.map(of_leaf, params, averaging.averaged_params, grads)
    return sum(jax.tree.leaves(products), start=jnp.zeros((), jnp.float32))
