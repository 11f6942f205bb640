"""The prior of the online learners: fitted offline, in one JSON file.

``examples/policy/train_prior.py`` writes it, and records in it how it was fitted.
"""

import functools
from importlib import resources
from typing import Any, NamedTuple

import jax
import numpy as np

from optax_adaptive.controllers.learned import policy_network
from optax_adaptive.controllers.learned.policy_network import PolicyWeights
from optax_adaptive.controllers.online._learner import ACTIONS
from optax_adaptive.state.validation import check_array

WIDTH = 12  # of the actor's hidden layer
COUNT = len(ACTIONS)


class Prior(NamedTuple):
    """A first policy for each learner, fitted to the final losses after actions."""

    actor: PolicyWeights  # features -> action before tanh
    q_values: Any  # shape=(COUNT, COUNT), dtype=float32: one row per state
    bandit: Any  # shape=(3,), dtype=float32: of action * proposed, action, action²


SHAPES = Prior(
    actor=policy_network.shapes(WIDTH),
    q_values=(COUNT, COUNT),
    bandit=(3,),
)


def checked(prior: Prior | None) -> Prior:
    """The prior as float32 NumPy arrays, the shipped one for None, or an error."""
    if prior is None:
        return shipped()
    if not isinstance(prior, Prior):
        raise TypeError(f"prior must come from load_prior(), but it is {prior!r}")
    named = _named(prior)
    for name, shape in _named(SHAPES).items():
        check_array(f"prior.{name}", named[name], shape)
    return jax.tree.map(lambda leaf: np.asarray(leaf, np.float32), prior)


def _named(prior: Prior) -> dict[str, Any]:
    """Its arrays by name."""
    return {
        **{f"actor.{name}": leaf for name, leaf in prior.actor._asdict().items()},
        "q_values": prior.q_values,
        "bandit": prior.bandit,
    }


def load_prior(path: Any) -> Prior:
    """Reads a prior that ``examples/policy/train_prior.py`` wrote.

    Args:
      path: Path of the JSON file: a string, a ``pathlib.Path``, or a package resource.

    Returns:
      The argument ``prior`` of ``bandit``, ``q_learning`` and ``actor_critic``.

    Raises:
      FileNotFoundError: If there is no such file.
      ValueError: If it is for other features, or an array is missing or misshapen.

    Example:
      >>> from importlib import resources
      >>> from optax_adaptive import controllers
      >>> folder = resources.files("optax_adaptive.controllers.online")
      >>> prior = controllers.load_prior(folder / "prior.json")
      >>> rule = controllers.q_learning(prior=prior)
    """
    lists = policy_network.read(path, "prior")
    policy_network.check_contains(path, lists, Prior._fields)
    prior = Prior(
        actor=policy_network.from_lists(path, lists["actor"]),
        q_values=np.asarray(lists["q_values"], np.float32),
        bandit=np.asarray(lists["bandit"], np.float32),
    )
    return checked(prior)


@functools.cache
def shipped() -> Prior:
    """The prior of the package, read once."""
    return load_prior(
        resources.files("optax_adaptive.controllers.online") / "prior.json"
    )
