"""Physics-informed networks: residuals of equations on full batches, without noise.

Raissi, Perdikaris and Karniadakis (2019). Evaluation takes the same loss at other
points of the domain.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmark.studies.beyond_home.tasks.training import Training
from benchmark.tasks.task import SPLITS, Array, Task
from policy.networks import Network, mlp

POINTS = 256
EDGE = 10.0  # weight of boundary and initial conditions
VISCOSITY = 0.05


def points(axes: int) -> dict[Any, Array]:
    """For each split its own, (POINTS, axes) in [0, 1)."""
    random = np.random.RandomState(0)
    return {
        split: jnp.asarray(random.uniform(size=(POINTS, axes)), jnp.float32)
        for split in SPLITS
    }


def physics(
    network: Network, axes: int, loss_at: Callable[[Callable, Array], Array], steps: int
) -> Training:
    """A network u that has to obey what ``loss_at`` says of it at some points."""
    placed = points(axes)

    def loss_of(params, split):
        def u(x):  # (axes,) to ()
            return network.apply(params, x, None)[0]

        return loss_at(u, placed[split])

    def loss(params, key):
        del key  # full batches
        return loss_of(params, "train")

    task = Task(steps, 1, network.init, loss, loss_of, False, "squares")
    return Training(task, optax.adam, 3e-3)


def poisson(steps: int = 5000) -> Training:
    """-u'' = f on [0, 1] and 0 at its ends, for u = sin(pi x) + sin(4 pi x) / 4."""

    def force(x):
        waves = jnp.sin(jnp.pi * x) + 4 * jnp.sin(4 * jnp.pi * x)
        return jnp.pi**2 * waves

    def loss_at(u, x):
        second = jax.vmap(jax.grad(jax.grad(lambda place: u(place[None]))))
        residual = second(x[:, 0]) + force(x[:, 0])
        ends = jax.vmap(u)(jnp.array([[0.0], [1.0]]))
        return jnp.square(residual).mean() + EDGE * jnp.square(ends).mean()

    return physics(mlp((1, 32, 32, 1), jnp.tanh), 1, loss_at, steps)


def burgers(steps: int = 5000) -> Training:
    """u_t + u u_x = 0.05 u_xx over [-1, 1], from -sin(pi x), and 0 at both ends."""

    def loss_at(u, unit):
        def of(time, place):
            return u(jnp.stack([time, place]))

        def residual(time, place):
            by_time, by_place = jax.grad(of, (0, 1))(time, place)
            second = jax.grad(jax.grad(of, 1), 1)(time, place)
            return by_time + of(time, place) * by_place - VISCOSITY * second

        time, place = unit[:, 0], 2 * unit[:, 1] - 1
        inside = jax.vmap(residual)(time, place)
        first = jax.vmap(of)(jnp.zeros_like(place), place) + jnp.sin(jnp.pi * place)
        ends = [jax.vmap(of)(time, jnp.full_like(time, end)) for end in (-1.0, 1.0)]
        edges = jnp.square(jnp.stack([first, *ends])).mean()
        return jnp.square(inside).mean() + EDGE * edges

    return physics(mlp((2, 32, 32, 32, 1), jnp.tanh), 2, loss_at, steps)
