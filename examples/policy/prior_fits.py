"""Fits the first policy of each online learner to the regrets of actions in states."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from optax_adaptive.controllers.learned import policy_network
from optax_adaptive.controllers.learned.policy_network import PolicyWeights, act, score
from optax_adaptive.controllers.online import _learner, offline_prior
from optax_adaptive.state.validation import check_array
from policy.prior_states import ACTIONS, States, empty_policy, mixed, pooled

NO_OP = np.flatnonzero(ACTIONS == 0.0).item()
RARE = 0.01  # part of the weight of all states that the parabola has in each of a table


def load_actor(path: str) -> PolicyWeights:
    """The network of a prior, whose other arrays may be for other actions."""
    actor = policy_network.from_lists(path, policy_network.read(path, "prior")["actor"])
    for name, shape in offline_prior.SHAPES.actor._asdict().items():
        check_array(f"actor.{name} of {path}", getattr(actor, name), shape)
    return actor


def regret_of(labels: jax.Array, actions: jax.Array) -> jax.Array:
    """Interpolates a row each."""
    place = (actions + 1) * (len(ACTIONS) - 1) / 2
    low = jnp.clip(jnp.floor(place).astype(jnp.int32), 0, len(ACTIONS) - 2)[:, None]
    part = place - low[:, 0]
    below = jnp.take_along_axis(labels, low, 1)[:, 0]
    above = jnp.take_along_axis(labels, low + 1, 1)[:, 0]
    return below + part * (above - below)


def fit_actor(seen: States, steps: int = 700, decay: float = 3e-4) -> PolicyWeights:
    """The network of least mean regret."""
    rng = np.random.default_rng(0)
    shapes = offline_prior.SHAPES.actor
    first = empty_policy()._replace(
        hidden=jnp.float32(rng.normal(size=shapes.hidden) / 4),
        output=jnp.float32(0.1 * rng.normal(size=shapes.output)),
    )
    first = jax.tree.map(jnp.float32, first)
    features, labels, weights = map(jnp.float32, seen)
    optimizer = optax.adam(optax.cosine_decay_schedule(0.02, steps))

    def loss_fn(policy):
        actions = jnp.tanh(jax.vmap(score, (None, 0))(policy, features))
        size = sum(jnp.sum(jnp.square(leaf)) for leaf in policy)
        return jnp.sum(weights * regret_of(labels, actions)) + decay * size

    def step(carry, _):
        policy, state = carry
        updates, state = optimizer.update(jax.grad(loss_fn)(policy), state)
        return (optax.apply_updates(policy, updates), state), None

    def run(policy):
        return jax.lax.scan(step, (policy, optimizer.init(policy)), length=steps)[0][0]

    return jax.tree.map(np.asarray, jax.jit(run)(first))


def act_of_all(actor: PolicyWeights, features: np.ndarray) -> np.ndarray:
    """What the network wants in each state, shape=(n,)."""
    return np.asarray(jax.vmap(act, (None, 0))(actor, jnp.asarray(features)))


def bins(wanted: np.ndarray) -> np.ndarray:
    """The state of q_learning that each wish of the network is, shape=(n,)."""
    return np.asarray(jax.vmap(_learner.nearest_action)(jnp.asarray(wanted)))


def fit_table(seen: States, wanted: np.ndarray, parabola: np.ndarray) -> np.ndarray:
    """Minus each action's mean regret in each state, the parabola's in rare ones."""
    places = bins(wanted)
    saved = saved_by(parabola, ACTIONS)
    rare = seen.weights @ seen.regrets[:, NO_OP] - saved
    sums = np.stack(
        [
            np.bincount(places, seen.weights * labels, offline_prior.COUNT)
            for labels in seen.regrets.T
        ],
        axis=1,
    )
    counts = np.bincount(places, seen.weights, offline_prior.COUNT)
    return -(sums + RARE * rare) / (counts + RARE)[:, None]


def fit_bandit(seen: States, wanted: np.ndarray) -> np.ndarray:
    """Least squares: what an action saves beside the no-op, as the bandit has it."""
    terms = (wanted[:, None] * ACTIONS, ACTIONS, np.square(ACTIONS))
    x = np.stack([np.broadcast_to(t, seen.regrets.shape) for t in terms], -1)
    y = seen.regrets[:, [NO_OP]] - seen.regrets
    gram = np.einsum("n,nai,naj->ij", seen.weights, x, x)
    return np.linalg.solve(gram, np.einsum("n,nai,na->i", seen.weights, x, y))


def saved_by(parabola: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Of each action beside the no-op, a row for each wish of the network."""
    by_wanted, bias, square = parabola
    slope = by_wanted * wanted + bias
    return slope[:, None] * ACTIONS + square * np.square(ACTIONS)


def fit_all(seen: States, actor: PolicyWeights) -> offline_prior.Prior:
    """What all learners go on from."""
    wanted = act_of_all(actor, seen.features)
    parabola = fit_bandit(seen, wanted)
    return offline_prior.Prior(actor, fit_table(seen, wanted, parabola), parabola)


def first_actions(
    prior: offline_prior.Prior, features: np.ndarray
) -> dict[str, np.ndarray]:
    """What each learner wants in states before it has learned, each of shape (n,)."""
    wanted = act_of_all(prior.actor, features)
    return {
        "actor_critic": wanted,
        "q_learning": ACTIONS[np.argmax(prior.q_values, axis=1)][bins(wanted)],
        "bandit": ACTIONS[np.argmax(saved_by(prior.bandit, wanted), axis=1)],
    }


def mean_regrets(seen: States, prior: offline_prior.Prior) -> dict[str, float]:
    """Of each learner's first policy on the states, and of the anchor."""
    actions = first_actions(prior, seen.features)
    actions["anchor"] = np.zeros(len(seen.weights))
    labels = jnp.float32(seen.regrets)
    return {
        name: round(
            float(seen.weights @ np.asarray(regret_of(labels, jnp.array(a)))), 4
        )
        for name, a in actions.items()
    }


def left_out(
    parts: list[States], count: int, actor: PolicyWeights | None = None
) -> dict[str, float]:
    """Mean regrets on families that a fit has not seen, in folds.

    The states themselves were collected by policies that had seen all families.

    Args:
      parts: States of one family each; the families in turn, round after round.
      count: Number of families.
      actor: The network, where that is not fitted.
    """
    folds = [[], [], []]
    for i, part in enumerate(parts):
        folds[i % count % len(folds)].append(part)
    found = []
    for judged in folds:
        seen = mixed(pooled(sum((fold for fold in folds if fold is not judged), [])))
        prior = fit_all(seen, fit_actor(seen) if actor is None else actor)
        found.append(mean_regrets(pooled(judged), prior))
    return {
        name: round(float(np.mean([regrets[name] for regrets in found])), 4)
        for name in found[0]
    }
