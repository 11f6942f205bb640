"""Fits the first policies of the online learners to what actions ended with.

    cd examples
    python -m policy.train_prior --workdir ../runs/prior --export ../prior.json

Small networks are trained around a cosine whose peak is up to ten times too small or
too large, under a learner that follows the present policy and learns nothing. Each
state that it was in is labelled with the regret of every action: the final validation
loss with that factor from the first step to the last, above that with the best factor.
A policy is fitted to minimise the regret, and the next round collects the states that
it leads to. In the end the same states make the table of q_learning and the weights of
the bandit. No label looks at what the loss does next, so none is short-sighted.

With ``--actor`` the network is that of a prior which is there, and the states make the
other two.

What a round has collected is kept in the working directory; the same command again
resumes a stopped run exactly. To fit to your own tasks, add their families to
policy/families.py.
"""

import argparse
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from optax_adaptive.controllers.learned import state_features
from optax_adaptive.controllers.learned.policy_network import PolicyWeights
from optax_adaptive.controllers.online import offline_prior
from policy import anchored, prior_fits, prior_states, run_log

# What a run that is resumed must have been started with.
SETTINGS = ("rounds", "lanes", "seed", "smoke", "actor")


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workdir", type=Path, default=Path("runs/prior"))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--lanes", type=int, default=32, help="trainings of a family")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--actor", help="a prior, whose network is kept")
    parser.add_argument("--export", type=Path, help="write the prior here")
    parser.add_argument("--smoke", action="store_true", help="seconds, same code")
    args = parser.parse_args(arguments)
    if args.smoke:
        args.rounds, args.lanes = 2, 4
    return args


def export(path: Path, prior: offline_prior.Prior, log: Path) -> None:
    """Writes the prior with what made it, in a form that a person can read."""
    header = json.loads(log.read_text().splitlines()[0])["header"]
    numbers = prior._replace(actor=prior.actor._asdict())._asdict()
    document = {
        "made_by": header,
        "log_sha256": hashlib.sha256(log.read_bytes()).hexdigest(),
        "features": list(state_features.NAMES),
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


class Collector:
    """Keeps what a run has collected in its folder, and so resumes where it stopped."""

    def __init__(self, workdir: Path, is_smoke: bool, lanes: int, seed: int):
        """Nothing is run yet."""
        self.workdir, self.lanes, self.seed = workdir, lanes, seed
        self.table = prior_states.table(is_smoke)
        self.follow: dict[str, Callable] = {
            name: anchored.try_learners(family, prior_states.frozen_rule)
            for name, family in self.table.items()
        }
        self.losses: dict[str, np.ndarray] = {}

    def constants(self, index: int, name: str) -> np.ndarray:
        """Losses of a family with constant factors."""
        key = jax.random.key(self.seed + 1000 + index)

        def make():
            return {"losses": prior_states.constant_losses(self.table[name], key)}

        self.losses[name] = kept(self.workdir / f"constant_{name}.npz", make)["losses"]
        return self.losses[name]

    def states(
        self, turn: int, policy: PolicyWeights | None
    ) -> tuple[list[prior_states.States], dict[str, float]]:
        """States of each family under a policy, and mean logs of the final losses."""
        parts, final = [], {}
        for i, name in enumerate(self.table):
            seed = self.seed + 1000 * (turn + 2) + i

            def make(name=name, seed=seed):
                return prior_states.collect(
                    self.follow[name], self.losses[name], policy, self.lanes, seed
                )

            collected = kept(self.workdir / f"round_{turn}_{name}.npz", make)
            parts.append(prior_states.states(self.losses[name], collected))
            final[name] = round(float(np.mean(collected["final"])), 3)
        return parts, final

    def policy(self, turn: int, seen: prior_states.States) -> PolicyWeights:
        """The network that is fitted to the states."""
        path = self.workdir / f"policy_{turn}.npz"
        return PolicyWeights(**kept(path, lambda: prior_fits.fit_actor(seen)._asdict()))


def fit(args: argparse.Namespace, write: Callable[[dict], None]) -> offline_prior.Prior:
    """Collects and fits, round by round."""
    actor = prior_fits.load_actor(args.actor) if args.actor else None
    collector = Collector(args.workdir, args.smoke, args.lanes, args.seed)
    for i, name in enumerate(collector.table):
        losses = collector.constants(i, name)
        write({"family": name, "losses": losses.round(3).tolist()})
    policy, every = None, []
    prior: Any = None
    for turn in range(args.rounds):
        parts, final = collector.states(turn, policy)
        every += parts
        seen = prior_states.pooled(every)
        fitted = prior_states.mixed(seen)
        policy = collector.policy(turn, fitted) if actor is None else actor
        prior = prior_fits.fit_all(fitted, policy)
        row = {"round": turn, "states": len(seen.weights), "final": final}
        row["regret"] = prior_fits.mean_regrets(seen, prior)
        unmeasured = prior_states.unmeasured(seen)
        row["regret_unmeasured"] = prior_fits.mean_regrets(unmeasured, prior)
        write(row)
        print(json.dumps(row["regret"]))
    if not args.smoke:
        found = prior_fits.left_out(every, len(collector.table), actor)
        write({"regret_left_out": found})
    return prior


def main(arguments: list[str] | None = None) -> None:
    """Fits, and writes the prior."""
    args = parse(arguments)
    args.workdir.mkdir(parents=True, exist_ok=True)
    log = args.workdir / "log.jsonl"
    settings = {name: getattr(args, name) for name in SETTINGS}
    if log.exists():
        run_log.check_same(log, settings)
        first = log.read_text().splitlines()[0]
    else:
        header = run_log.header("policy.train_prior", arguments) | {
            "settings": settings
        }
        first = json.dumps({"header": header})
    with log.open("w") as output:
        print(first, file=output, flush=True)
        prior = fit(args, lambda row: print(json.dumps(row), file=output, flush=True))
    if args.export:
        export(args.export, prior, log)


if __name__ == "__main__":
    main()
