"""Faults of losses and gradients: at which steps, and what they make of a step."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

BURSTS = (1, 2, 10, 20, 100, 1000)  # steps
STARTS = (5, 50, 100, 300, 1000)
PERIOD = 100  # between pairs
SHARE = 0.1  # of steps, at random
SPIKE = 1000.0


class Fault(NamedTuple):
    """What is wrong, and when."""

    kind: str  # of KINDS
    name: str  # of the pattern in time
    steps: np.ndarray  # shape=(steps,), dtype=bool


# Factor on the loss, and on the gradients, of a step with a fault.
KINDS = {
    "NaN in loss and gradients": (np.nan, np.nan),
    "NaN in the loss": (np.nan, 1.0),
    f"spikes of {SPIKE:.0f}x": (SPIKE, SPIKE),
}


def patterns(steps: int) -> dict[str, np.ndarray]:
    """By name: which of so many steps have the fault."""
    time = np.arange(steps)
    found = {
        f"{length} at {start}": (time >= start) & (time < start + length)
        for length in BURSTS
        for start in STARTS
        if start + 2 * length <= steps
    }
    found[f"2 every {PERIOD}"] = time % PERIOD >= PERIOD - 2
    found[f"{SHARE:.0%} at random"] = np.random.default_rng(0).random(steps) < SHARE
    return found


def faults(steps: int) -> list[Fault]:
    """All of them."""
    return [
        Fault(kind, name, bad)
        for kind in KINDS
        for name, bad in patterns(steps).items()
    ]


def applied(is_bad, factors, loss, grads):
    """Loss and gradients of a step; ``factors`` are those of its kind."""

    def spoil(factor, leaf):
        return jnp.where(is_bad, factor * leaf, leaf)

    on_loss, on_grads = factors
    return spoil(on_loss, loss), jax.tree.map(lambda g: spoil(on_grads, g), grads)
