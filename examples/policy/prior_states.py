"""States that online learners come into, and the regret of every action in them.

A state is labelled by what the training ended with under each constant factor, so that
no label looks at what the loss does next.
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from optax_adaptive.controllers.learned import gap_features, state_features
from optax_adaptive.controllers.learned.policy_network import PolicyWeights, score
from optax_adaptive.controllers.online import _learner, _residual, offline_prior
from policy import anchored, families

ALPHA = math.log(10.0)
GRID = np.arange(-6, 7) / 3.0  # decades of constant factors
ACTIONS = np.array(_learner.ACTIONS)
TUNED = 0.3  # part of the trainings whose anchor is right
LEAST = 0.05  # of a log loss, that being a decade off costs: the unit of regrets
WORST = 2.0  # regret that any worse one counts as
# Families that compile in seconds. They run for longer than learned's: a learner needs
# 100 windows and more.
FAMILIES = (
    *("mlp-adam", "dropout-adamw", "values-adam", "plain-momentum", "deep-lion"),
    *("norm-adam", "attention-adam", "loud-adam", "quiet-values-adam"),
    *("mlp-momentum", "conv-adam", "tanh-adam"),
)
LONGER = 3
UNMEASURED = 0.2  # weight of the states without the averaging gap
SAMPLES = (
    3  # tasks of each family, over which losses with constant factors are averaged
)


class States(NamedTuple):
    """Decisions and what each action would have ended with."""

    features: np.ndarray  # shape=(n, SIZE)
    regrets: np.ndarray  # shape=(n, len(ACTIONS))
    weights: np.ndarray  # shape=(n,): each training weighs the same; they sum to 1


def empty_policy() -> PolicyWeights:
    """Always the anchor."""
    leaves: Any = (np.zeros(shape, np.float32) for shape in offline_prior.SHAPES.actor)
    return PolicyWeights(*leaves)


def table(is_smoke: bool) -> dict[str, families.Family]:
    """The families to fit to."""
    if is_smoke:
        return {"values-sgd": families.TRAINING["values-sgd"]._replace(steps=200)}
    chosen = {name: families.TRAINING[name] for name in FAMILIES}
    return {n: k._replace(steps=LONGER * k.steps) for n, k in chosen.items()}


def frozen_rule(prior: tuple[PolicyWeights, jax.Array], seed: Any) -> Any:
    """The rule that follows a policy, with noise of a given size, and never learns."""
    weights, deviation = prior

    def act(state, features, key, exploration):
        del exploration
        noise = deviation * jax.random.normal(key)
        return jnp.tanh(score(weights, features) + noise), state

    learner = _learner.Learner(lambda: (), act, lambda state, transition: state)
    return _residual.residual("random", learner, ALPHA, 4, seed)


def constant_losses(family: families.Family, key: jax.Array) -> np.ndarray:
    """Mean log of the final loss with each factor of ``GRID``, shape=(len(GRID),)."""
    keys = jax.random.split(key, SAMPLES)
    return np.asarray(anchored.try_constants(family)(GRID, keys)).mean(0)


def regrets(losses: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Of ``ACTIONS`` around peaks off by ``offsets`` decades, a row each.

    In units of what being off by a decade costs, and at most ``WORST``.
    """
    best = float(GRID[np.argmin(losses)])
    off = np.interp([best - 1, best + 1], GRID, losses).mean() - losses.min()
    reached = np.interp(best + offsets[:, None] + ACTIONS, GRID, losses)
    return np.clip((reached - losses.min()) / max(off, LEAST), 0.0, WORST)


def collect(
    follow: Any, losses: np.ndarray, policy: PolicyWeights | None, lanes: int, seed: int
) -> dict[str, np.ndarray]:
    """The states that trainings of a family were in, under a policy.

    Under None each keeps to one action, but for noise.
    """
    rng = np.random.default_rng(seed)
    offsets = 2 * (rng.permutation(lanes) + rng.random(lanes)) / lanes - 1
    offsets = np.where(rng.random(lanes) < TUNED, 0.0, offsets)
    policies = jax.tree.map(
        lambda leaf: np.repeat(np.asarray(leaf, np.float32)[None], lanes, axis=0),
        empty_policy() if policy is None else policy,
    )
    if policy is None:
        policies = policies._replace(output_bias=jnp.float32(rng.normal(size=lanes)))
    deviations = np.full(lanes, 0.5 if policy is None else 0.25, np.float32)
    final, trace = follow(
        (policies, deviations),
        jnp.float32(GRID[np.argmin(losses)] + offsets),
        jnp.arange(lanes, dtype=jnp.int32),
        jax.random.split(jax.random.key(seed), lanes),
    )
    return {
        "offsets": offsets,
        "final": np.log(final),
        "features": np.asarray(trace.features),
        "is_first": np.asarray(trace.is_first),
    }


def states(losses: np.ndarray, collected: dict[str, np.ndarray]) -> States:
    """The decisions of trainings of one family, with their labels."""
    labels = regrets(losses, collected["offsets"])
    lane, window = np.nonzero(collected["is_first"])
    counts = np.bincount(lane, minlength=len(labels))
    return States(collected["features"][lane, window], labels[lane], 1 / counts[lane])


def pooled(parts: list[States]) -> States:
    """All together."""
    features, labels, weights = map(np.concatenate, zip(*parts, strict=True))
    return States(features, labels, weights / weights.sum())


def unmeasured(seen: States) -> States:
    """The same states, as they look where the averaging gap is not measured."""
    is_hidden = [name in gap_features.NAMES for name in state_features.NAMES]
    return seen._replace(features=np.where(is_hidden, 0.0, seen.features))


def mixed(seen: States) -> States:
    """For learners that are used within ``with_averaging`` mostly, but not always."""
    return pooled(
        [
            seen._replace(weights=(1 - UNMEASURED) * seen.weights),
            unmeasured(seen)._replace(weights=UNMEASURED * seen.weights),
        ]
    )
