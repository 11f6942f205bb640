"""Forms of fine-tuning: all of a network, its last layers, or low-rank adapters."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np

from benchmark.tasks.task import Array

Form = Literal["full", "last", "low_rank"]
FORMS: tuple[Form, ...] = get_args(Form)
RANK = 4


class Base(NamedTuple):
    """A trained network, whose output may have to be another's."""

    params: dict[str, Any]  # those that are kept
    fresh: Callable[[Array], dict[str, Any]]  # key -> those that begin anew, by name
    last: Callable[[dict[str, Any]], Any]  # params -> tree: is it of the last layers?


def first_params(form: Form, base: Base, key: Array) -> dict[str, Any]:
    """What is trained, and what is frozen, of a form.

    Args:
      form: One of ``FORMS``.
      base: The network.
      key: Of the fresh layers, and of the adapters.

    Returns:
      A network's parameters; with low rank, the fresh ones and the two factors of
      each adapter, of which one is 0 (Hu et al., 2021).
    """
    fresh_key, key = jax.random.split(key)
    fresh = base.fresh(fresh_key)
    if form != "low_rank":
        # Else XLA would compute the first evaluation while it compiles, slowly.
        return jax.lax.optimization_barrier(base.params) | fresh
    adapters = {
        str(place): {
            "down": jax.random.normal(jax.random.fold_in(key, place), (rows, RANK))
            / np.sqrt(rows),
            "up": jnp.zeros((RANK, columns)),
        }
        for place, leaf in enumerate(jax.tree.leaves(base.params))
        if leaf.ndim == 2
        for rows, columns in [leaf.shape]
    }
    return {"adapters": adapters, "fresh": fresh}


def network_params(form: Form, base: Base, params: dict[str, Any]) -> dict[str, Any]:
    """The parameters that the network is called with."""
    if form != "low_rank":
        return params
    leaves, structure = jax.tree.flatten(base.params)
    for place, factors in params["adapters"].items():
        adapter = factors["down"] @ factors["up"]
        leaves[int(place)] = leaves[int(place)] + adapter
    return jax.tree.unflatten(structure, leaves) | params["fresh"]


def labels(form: Form, base: Base) -> Callable[[Any], Any] | None:
    """What ``optax.partition`` needs to know, if anything is frozen."""
    if form != "last":
        return None
    names = {True: "train", False: "frozen"}
    return lambda params: jax.tree.map(names.__getitem__, base.last(params))
