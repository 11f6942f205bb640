"""Trains the policy behind controllers.learned, by PPO or evolution strategies.

    cd examples && python -m policy.train_policy --workdir ../runs/policy --minutes 50

Each generation, the present policy with noise on its actions (or, with --by evolution,
policies around it) train small networks from base rates that are up to a thousand times
too small or too large, all on the same tasks, and are scored by nothing but the final
validation loss of the averaged weights. The same command again resumes a stopped run
exactly. To train on your own tasks, add their families to policy/families.py.
"""

import argparse
import hashlib
import json
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from rich.progress import Progress

from optax_adaptive.controllers.learned.policy_network import PolicyWeights
from optax_adaptive.controllers.learned.state_features import NAMES
from policy import evolution, families, run_log
from policy.trainers import TRAINERS, Trainer

# What a run that is resumed must have been started with.
SETTINGS = (
    "by",
    "pairs",
    "tasks",
    "sigma",
    "learning_rate",
    "decay",
    "seed",
    "hidden",
    "families",
    "select_every",
    "smoke",
)


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workdir", type=Path, default=Path("runs/policy"))
    parser.add_argument("--minutes", type=float, default=50.0, help="then stop")
    parser.add_argument("--generations", type=int, default=10_000, help="or then")
    parser.add_argument("--by", choices=TRAINERS, default="ppo")
    parser.add_argument("--pairs", type=int, default=16, help="of policies, or runs")
    parser.add_argument("--tasks", type=int, default=8, help="a generation")
    parser.add_argument("--hidden", type=int, default=0, help="units of the policy")
    parser.add_argument("--sigma", type=float, default=0.1, help="of evolution")
    parser.add_argument("--learning-rate", type=float, default=0.003)
    parser.add_argument("--decay", type=float, default=0.0005, help="of evolution")
    parser.add_argument("--families", nargs="+", help="these alone, of both tables")
    parser.add_argument("--select-every", type=int, default=10, help="generations")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--warm-start", type=Path, help="a policy to begin with")
    parser.add_argument("--export", type=Path, help="write the best policy here")
    parser.add_argument("--smoke", action="store_true", help="seconds, same code")
    args = parser.parse_args(arguments)
    known = set(families.TRAINING | families.HELD_OUT)
    if unknown := sorted(set(args.families or ()) - known):
        parser.error(f"no family {', '.join(unknown)}, but {', '.join(sorted(known))}")
    if args.smoke:
        args.pairs, args.tasks, args.generations, args.select_every = 2, 1, 2, 1
    return args


def save(path: Path, state: evolution.Evolution, best: np.ndarray, regret: float):
    """Writes a checkpoint, whole or not at all."""
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(state)]
    temporary = path.with_suffix(".tmp.npz")
    np.savez(temporary, *leaves, best=best, regret=regret)
    temporary.replace(path)


def restore(path: Path, like: evolution.Evolution) -> tuple[Any, np.ndarray, float]:
    """Reads a checkpoint."""
    with np.load(path) as file:
        treedef = jax.tree.structure(like)
        leaves = [jnp.asarray(file[f"arr_{i}"]) for i in range(treedef.num_leaves)]
        return jax.tree.unflatten(treedef, leaves), file["best"], float(file["regret"])


def export(path: Path, policy: PolicyWeights, log: Path, numbers: dict) -> None:
    """Writes weights with what made them, in a form that a person can read."""
    header = json.loads(log.read_text().splitlines()[0])["header"]
    digest = hashlib.sha256(log.read_bytes()).hexdigest()
    weights = {
        name: json.loads(json.dumps(np.asarray(leaf, np.float64).round(5).tolist()))
        for name, leaf in zip(PolicyWeights._fields, policy, strict=True)
    }
    document = {
        "made_by": header | numbers,
        "log_sha256": digest,
        "features": list(NAMES),
        "weights": weights,
    }
    path.write_text(json.dumps(document, indent=None) + "\n")


def start_log(
    log: Path, args: argparse.Namespace, arguments: list[str] | None, settings: dict
) -> None:
    """Begins the log of a new run."""
    header = run_log.header("policy.train_policy", arguments) | {
        "seed": args.seed,
        "settings": settings,
    }
    if args.warm_start:
        header["warm_start"] = origin(args.warm_start)
    log.write_text(json.dumps({"header": header}) + "\n")


def origin(weights: Path) -> dict[str, Any]:
    """What exported weights say of themselves, wherever they lie."""
    document = json.loads(weights.read_text())
    return {name: document[name] for name in ("made_by", "log_sha256")}


def select(
    trainer: Trainer, state: evolution.Evolution, best: np.ndarray, regret: float
) -> tuple[np.ndarray, float, dict[str, Any]]:
    """The better one on held-out families of the present policy and the best so far.

    Also a row for the log.
    """
    found = trainer.held_out(trainer.unravel(state.smooth))
    row = {"generation": int(state.generation), "held_out": found}
    if found["mean"] < regret:
        return np.asarray(state.smooth), found["mean"], row
    return best, regret, row


def main(arguments: list[str] | None = None) -> None:
    """Trains until the time or the generations are used up."""
    args = parse(arguments)
    args.workdir.mkdir(parents=True, exist_ok=True)
    log, checkpoint = args.workdir / "log.jsonl", args.workdir / "checkpoint.npz"
    trainer = TRAINERS[args.by](args)
    state, best, regret = trainer.start, np.asarray(trainer.start.center), np.inf
    settings = {name: getattr(args, name) for name in SETTINGS}
    settings["warm_start"] = args.warm_start and origin(args.warm_start)["log_sha256"]
    if checkpoint.exists():
        run_log.check_same(log, settings)
        state, best, regret = restore(checkpoint, state)
        run_log.trim(log, int(state.generation))
    else:
        start_log(log, args, arguments, settings)
    stop = time.monotonic() + 60 * args.minutes
    with log.open("a") as output, Progress() as progress:

        def write(row):
            print(json.dumps(row), file=output, flush=True)

        bar = progress.add_task("generations", total=args.generations)
        if int(state.generation) == 0:
            best, regret, row = select(trainer, state, best, regret)
            write(row)
        while int(state.generation) < args.generations and time.monotonic() < stop:
            state, row = trainer.generation(state)
            write(row)
            if int(state.generation) % args.select_every == 0:
                best, regret, row = select(trainer, state, best, regret)
                write(row)
            save(checkpoint, state, best, regret)
            progress.update(
                bar,
                completed=int(state.generation),
                description=f"held-out log loss above the cosine's {regret:+.3f}",
            )
    if args.export:
        numbers = {"generations": int(state.generation), "held_out_regret": regret}
        export(args.export, trainer.unravel(jnp.asarray(best)), log, numbers)


if __name__ == "__main__":
    main()
