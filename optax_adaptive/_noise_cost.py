"""What noise costs: the loss of the parameters above that of their average.

To first order that is (parameters - average) · gradient. Noise and oscillation make it,
and averaging takes it away. Below 0 the newest parameters are still ahead of their
average: the rate is too low for anything but progress to be seen.

Inner products with gradients have long told the two regimes apart: of successive ones
(Pflug, 1983; Chee and Toulis, 2018), and of the way from a start (Pesme, Dieuleveut and
Flammarion, 2020). There they only ever lower a rate.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax

from optax_adaptive._controller import Array

EVERY = 4  # steps from one product to the next: it reads all parameters


class NoiseCost(NamedTuple):
    """What is handed to the rules inside, as the keyword ``noise_cost``."""

    value: Array  # shape=(), dtype=float32; 0 if not measured
    is_new: Array  # shape=(), dtype=bool: was it measured at this step?


def is_due(elapsed: Array) -> Array:
    """Whether a product is asked for after so many steps, bool."""
    return elapsed % EVERY == 0


def product(average: optax.Params, params: optax.Params, grads: Any) -> Array:
    """(params - average) · gradient, float32 of shape ()."""

    def of_leaf(param, mean, grad):
        ahead = param.astype(mean.dtype) - mean
        products = grad.astype(mean.dtype).conj() * ahead
        total = jnp.sum(products).real.astype(jnp.float32)
        # Of masks of -inf it is NaN. To look at each entry takes four times as long.
        return jnp.where(jnp.isnan(total), 0.0, total)

    products = jax.tree.map(of_leaf, params, average, grads)
    return sum(jax.tree.leaves(products), start=jnp.zeros((), jnp.float32))


def measure(
    average: optax.Params,
    params: optax.Params,
    grads: Any,
    *,
    is_measured: Array,
    interpolation: float | Array,
) -> NoiseCost:
    """What noise costs at the point that the optimizer moves, if ``is_measured``.

    With ``interpolation`` params are only a part of the way ahead of the average. Of
    the first parameters in place of the newest it is the slope along the way back.
    """
    # Of functions that keep their identity, or eager calls would compile them anew.
    cost = lax.cond(is_measured, product, _nothing, average, params, grads)
    ahead = jnp.asarray(1.0 - interpolation, jnp.float32)
    return NoiseCost(cost / ahead, is_measured)


def told(
    extra_args: dict[str, Any], cost: NoiseCost, interpolation: float | Array
) -> dict[str, Any]:
    """What ``update`` of the transformations inside is given.

    Rules do not know of an interpolation, by which a training bears more noise. So they
    are told the geometric mean of what noise costs at the point that the optimizer
    moves and at the params, where gradients are taken (docs/learned_experiments.md).

    A line search hands what it does not know to ``value_fn``, which would complain.
    """
    if "value_fn" in extra_args:
        return extra_args
    ahead = jnp.asarray(1.0 - interpolation, jnp.float32)
    cost = cost._replace(value=cost.value * jnp.sqrt(ahead))
    return extra_args | {"noise_cost": cost}


def _nothing(average: optax.Params, params: optax.Params, grads: Any) -> Array:
    del average, params, grads
    return jnp.zeros((), jnp.float32)
