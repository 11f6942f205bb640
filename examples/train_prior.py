"""Fits the first policies of the online learners to what actions ended with.

    python examples/train_prior.py --workdir runs/prior --export prior.json

Small networks are trained around a cosine whose peak is up to ten times too small or
too large, under a learner that follows the present policy and learns nothing. Each
state that it was in is labelled with the regret of every action: the final validation
loss with that factor from the first step to the last, above that with the best factor.
A policy is fitted to minimise the regret, and the next round collects the states that
it leads to. In the end the same states make the table of q_learning and the weights of
the bandit. No label looks at what the loss does next, so there is no short horizon.

With ``--actor`` the network is that of a prior which is there, and the states make the
other two.

What a round has collected is kept in the working directory; the same command again
resumes a stopped run exactly. To fit to your own tasks, add their kinds to
policy/kinds.py.
"""

import argparse
import hashlib
import json
import math
import platform
import shlex
import sys
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from optax_adaptive.controllers.learned import (
    feature_memory,
    gap_features,
    policy_network,
)
from optax_adaptive.controllers.learned.policy_network import PolicyWeights, act, score
from optax_adaptive.controllers.online import _learner, _residual, offline_prior
from optax_adaptive.state.validation import check_array
from policy import anchored, kinds
from train_policy import check_same

ALPHA = math.log(10.0)
GRID = np.arange(-6, 7) / 3.0  # decades of constant factors
ACTIONS = np.array(_learner.ACTIONS)
NO_OP = np.flatnonzero(ACTIONS == 0.0).item()
TUNED = 0.3  # part of the trainings whose anchor is right
LEAST = 0.05  # of a log loss, that being a decade off costs: the unit of regrets
WORST = 2.0  # regret that any worse one counts as
# Kinds that compile in seconds. They run for longer than learned's: a learner needs
# 100 windows and more.
KINDS = (
    *("mlp-adam", "dropout-adamw", "values-adam", "plain-momentum", "deep-lion"),
    *("norm-adam", "attention-adam", "loud-adam", "quiet-values-adam"),
    *("mlp-momentum", "conv-adam", "tanh-adam"),
)
LONGER = 3
RARE = 0.01  # part of the weight of all states that the parabola has in each of a table
UNMEASURED = 0.2  # weight of the states without what noise costs
DRAWS = 3  # of each kind, over which the losses with constant factors are averaged
# What a run that is resumed must have been started with.
SETTINGS = ("rounds", "lanes", "seed", "smoke", "actor")


class States(NamedTuple):
    """Decisions and what each action would have ended with."""

    features: np.ndarray  # shape=(n, SIZE)
    regrets: np.ndarray  # shape=(n, len(ACTIONS))
    weights: np.ndarray  # shape=(n,): each training weighs the same; they sum to 1


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workdir", type=Path, default=Path("runs/prior"))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--lanes", type=int, default=32, help="trainings of a kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--actor", help="a prior, whose network is kept")
    parser.add_argument("--export", type=Path, help="write the prior here")
    parser.add_argument("--smoke", action="store_true", help="seconds, same code")
    args = parser.parse_args(arguments)
    if args.smoke:
        args.rounds, args.lanes = 2, 4
    return args


def table(is_smoke: bool) -> dict[str, kinds.Kind]:
    """The kinds to fit to."""
    if is_smoke:
        return {"values-sgd": kinds.TRAINING["values-sgd"]._replace(steps=200)}
    chosen = {name: kinds.TRAINING[name] for name in KINDS}
    return {n: k._replace(steps=LONGER * k.steps) for n, k in chosen.items()}


def frozen_rule(prior: tuple[PolicyWeights, jax.Array], seed: Any) -> Any:
    """The rule that follows a policy, with noise of a deviation, and never learns."""
    weights, deviation = prior

    def act(state, features, key, exploration):
        del exploration
        noise = deviation * jax.random.normal(key)
        return jnp.tanh(score(weights, features) + noise), state

    learner = _learner.Learner(lambda: (), act, lambda state, transition: state)
    return _residual.residual("random", learner, ALPHA, 4, seed)


def constant_losses(kind: kinds.Kind, key: jax.Array) -> np.ndarray:
    """Mean log of the final loss with each factor of ``GRID``, shape=(len(GRID),)."""
    keys = jax.random.split(key, DRAWS)
    return np.asarray(anchored.try_constants(kind)(GRID, keys)).mean(0)


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
    """The states that trainings of a kind were in, under a policy.

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
    """The decisions of trainings of one kind, with their labels."""
    labels = regrets(losses, collected["offsets"])
    lane, window = np.nonzero(collected["is_first"])
    counts = np.bincount(lane, minlength=len(labels))
    return States(collected["features"][lane, window], labels[lane], 1 / counts[lane])


def pooled(parts: list[States]) -> States:
    """All together."""
    features, labels, weights = map(np.concatenate, zip(*parts, strict=True))
    return States(features, labels, weights / weights.sum())


def unmeasured(seen: States) -> States:
    """The same states, as they look where what noise costs is not measured."""
    is_hidden = [name in gap_features.NAMES for name in feature_memory.NAMES]
    return seen._replace(features=np.where(is_hidden, 0.0, seen.features))


def mixed(seen: States) -> States:
    """For learners that are used within ``with_averaging`` mostly, but not always."""
    return pooled(
        [
            seen._replace(weights=(1 - UNMEASURED) * seen.weights),
            unmeasured(seen)._replace(weights=UNMEASURED * seen.weights),
        ]
    )


def load_actor(path: str) -> PolicyWeights:
    """The network of a prior, whose other arrays may be for other actions."""
    actor = policy_network.from_lists(path, policy_network.read(path, "prior")["actor"])
    for name, shape in offline_prior.SHAPES.actor._asdict().items():
        check_array(f"actor.{name} of {path}", getattr(actor, name), shape)
    return actor


def empty_policy() -> PolicyWeights:
    """Always the anchor."""
    leaves: Any = (np.zeros(shape, np.float32) for shape in offline_prior.SHAPES.actor)
    return PolicyWeights(*leaves)


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
    """Minus the mean regret of each arm in each state, the parabola's in rare ones."""
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
    """Least squares: what an arm saves beside the no-op, as the bandit has it."""
    terms = (wanted[:, None] * ACTIONS, ACTIONS, np.square(ACTIONS))
    x = np.stack([np.broadcast_to(t, seen.regrets.shape) for t in terms], -1)
    y = seen.regrets[:, [NO_OP]] - seen.regrets
    gram = np.einsum("n,nai,naj->ij", seen.weights, x, x)
    return np.linalg.solve(gram, np.einsum("n,nai,na->i", seen.weights, x, y))


def saved_by(parabola: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Of each arm beside the no-op, a row for each wish of the network."""
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
    """Mean regrets on kinds that a fit has not seen, in folds.

    The states themselves were collected by policies that had seen all kinds.

    Args:
      parts: States of one kind each; the kinds in turn, round after round.
      count: Number of kinds.
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


def export(path: Path, prior: offline_prior.Prior, log: Path) -> None:
    """Writes the prior with what made it, in a form that a person can read."""
    header = json.loads(log.read_text().splitlines()[0])["header"]
    numbers = prior._replace(actor=prior.actor._asdict())._asdict()
    document = {
        "made_by": header,
        "log_sha256": hashlib.sha256(log.read_bytes()).hexdigest(),
        "features": list(feature_memory.NAMES),
        "prior": jax.tree.map(
            lambda leaf: np.asarray(leaf, np.float64).round(4).tolist(), numbers
        ),
    }
    path.write_text(json.dumps(document, indent=None) + "\n")


def kept(path: Path, make: Any) -> dict[str, Any]:
    """The arrays in a file, which ``make`` makes if there is none."""
    if not path.exists():
        temporary = path.with_suffix(".tmp.npz")
        np.savez(temporary, **make())
        temporary.replace(path)
    with np.load(path) as file:
        return dict(file)


def main(arguments: list[str] | None = None) -> None:
    """Collects and fits, round by round."""
    args = parse(arguments)
    args.workdir.mkdir(parents=True, exist_ok=True)
    log = args.workdir / "log.jsonl"
    settings = {name: getattr(args, name) for name in SETTINGS}
    if log.exists():
        check_same(log, settings)
        lines = log.read_text().splitlines()[:1]
    else:
        command = shlex.join(["python", *(arguments or sys.argv)])
        versions = {"jax": jax.__version__, "python": platform.python_version()}
        header = {"command": command, "versions": versions, "settings": settings}
        lines = [json.dumps({"header": header})]
    actor = load_actor(args.actor) if args.actor else None
    chosen = table(args.smoke)
    follow = {n: anchored.try_learners(k, frozen_rule) for n, k in chosen.items()}
    losses = {}
    with log.open("w") as output:
        print(*lines, sep="\n", file=output, flush=True)
        for i, (name, kind) in enumerate(chosen.items()):
            key = jax.random.key(args.seed + 1000 + i)
            losses[name] = kept(
                args.workdir / f"constant_{name}.npz",
                lambda kind=kind, key=key: {"losses": constant_losses(kind, key)},
            )["losses"]
            row = {"kind": name, "losses": losses[name].round(3).tolist()}
            print(json.dumps(row), file=output, flush=True)
        policy, parts = None, []
        prior: Any = None
        for turn in range(args.rounds):
            final = {}
            for i, name in enumerate(chosen):
                seed = args.seed + 1000 * (turn + 2) + i
                collected = kept(
                    args.workdir / f"round_{turn}_{name}.npz",
                    lambda name=name, policy=policy, seed=seed: collect(
                        follow[name], losses[name], policy, args.lanes, seed
                    ),
                )
                parts.append(states(losses[name], collected))
                final[name] = round(float(np.mean(collected["final"])), 3)
            seen = pooled(parts)
            fitted = mixed(seen)
            policy = actor
            if policy is None:
                policy = PolicyWeights(
                    **kept(
                        args.workdir / f"policy_{turn}.npz",
                        lambda fitted=fitted: fit_actor(fitted)._asdict(),
                    )
                )
            prior = fit_all(fitted, policy)
            row = {"round": turn, "states": len(seen.weights), "final": final}
            row["regret"] = mean_regrets(seen, prior)
            row["regret_unmeasured"] = mean_regrets(unmeasured(seen), prior)
            print(json.dumps(row), file=output, flush=True)
            print(json.dumps(row["regret"]))
        if not args.smoke:
            row = {"regret_left_out": left_out(parts, len(chosen), actor)}
            print(json.dumps(row), file=output, flush=True)
    if args.export:
        export(args.export, prior, log)


if __name__ == "__main__":
    main()
