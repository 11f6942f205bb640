"""A generation of the policy's training: sample tasks, try policies, move one."""

import argparse
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from methods.hand_set_policy import first_policy
from optax_adaptive.controllers import load_weights
from policy import evolution, families, ppo, rollout
from policy.held_out import HeldOut

SPREAD = 3.0  # decades by which the base rate may be off, either way
LONGEST = 4.0  # times the family's steps
KNOWN, ANNEALED = 0.5, 0.25  # parts of the runs: length given, base rate a cosine


def tables(
    is_smoke: bool, wanted: list[str] | None
) -> tuple[dict[str, families.Family], dict[str, families.Family]]:
    """The families to train on and those to select on."""
    if not is_smoke:
        return only(wanted, families.TRAINING), only(wanted, families.HELD_OUT)
    training = {"values-sgd": families.TRAINING["values-sgd"]._replace(steps=40)}
    return training, {
        "wide-rmsprop": families.HELD_OUT["wide-rmsprop"]._replace(steps=40)
    }


def only(wanted: list[str] | None, table: dict[str, Any]) -> dict[str, Any]:
    """The families of ``table`` that are wanted, or all."""
    if wanted is None:
        return table
    return {name: family for name, family in table.items() if name in wanted}


def sample_tasks(
    table: dict[str, families.Family], count: int, key: jax.Array
) -> list[tuple[str, rollout.Setting]]:
    """Families without repetition, and how each is set: offsets are spread evenly."""
    rng = np.random.default_rng(np.asarray(jax.random.key_data(key)))
    chosen = rng.choice(list(table), min(count, len(table)), replace=False)
    strata = (rng.permutation(len(chosen)) + rng.random(len(chosen))) / len(chosen)
    offsets = SPREAD * (2 * strata - 1)
    is_known, is_annealed = rng.random((2, len(chosen))) < [[KNOWN], [ANNEALED]]
    lengths = LONGEST ** rng.random(len(chosen))
    return [
        (
            str(name),
            rollout.setting(offset, table[name].steps * length, known, annealed),
        )
        for name, offset, length, known, annealed in zip(
            *(chosen, offsets, lengths, is_known, is_annealed), strict=True
        )
    ]


class Trainer:
    """What both ways to train share."""

    def __init__(self, args: argparse.Namespace):
        """Prepares the families to select on, and the start."""
        self.args = args
        self.training, held_out = tables(args.smoke, args.families)
        self.held_out = HeldOut(held_out)
        self.key = jax.random.key(args.seed)
        first = first_policy(jax.random.fold_in(self.key, 2**24), args.hidden)
        if args.warm_start:
            first = load_weights(args.warm_start)
            args.hidden = first.output.size  # its own, whatever the flag says
        _, self.unravel = ravel_pytree(first)
        self.start = evolution.first_evolution(first, args.learning_rate)

    def generation(
        self, state: evolution.Evolution
    ) -> tuple[evolution.Evolution, dict[str, Any]]:
        """Tries policies on new tasks, and moves the centre."""
        key = jax.random.fold_in(self.key, int(state.generation))
        noise_key, sample_key, task_key = jax.random.split(key, 3)
        sampled = sample_tasks(self.training, self.args.tasks, sample_key)
        keys = [jax.random.fold_in(task_key, i) for i in range(len(sampled))]
        tasks = [(*task, key) for task, key in zip(sampled, keys, strict=True)]
        state, losses = self.improve(state, noise_key, tasks)
        row = []
        for (name, setting, _), found in zip(tasks, losses, strict=True):
            quantiles = np.quantile(np.log(found), [0, 0.5, 1])
            row.append(
                [name, *(round(float(field), 2) for field in setting)]
                + [float(f"{q:.3g}") for q in quantiles]
            )
        return state, {"generation": int(state.generation), "tasks": row}

    def improve(
        self,
        state: evolution.Evolution,
        noise_key: jax.Array,
        tasks: list[tuple[str, rollout.Setting, jax.Array]],
    ) -> tuple[evolution.Evolution, list[np.ndarray]]:
        """The next state, and the losses on each of the tasks."""
        raise NotImplementedError


class ByEvolution(Trainer):
    """Policies around the present one, each of them for whole runs."""

    def improve(self, state, noise_key, tasks):
        """See :class:`Trainer`."""
        args = self.args
        directions = evolution.noise(noise_key, args.pairs, state.center.size)
        policies = jax.vmap(self.unravel)(state.center + args.sigma * directions)
        found = [
            rollout.policy_losses(self.training[name], policies, setting, key)
            for name, setting, key in tasks
        ]
        losses = [np.asarray(losses, np.float64) for losses in found]
        fitness = sum(evolution.scores(found) / len(tasks) for found in losses)
        state = evolution.advance(
            state,
            directions,
            jnp.asarray(fitness, jnp.float32),
            args.sigma,
            args.learning_rate,
            args.decay,
        )
        return state, losses


class ByPPO(Trainer):
    """The present policy with noise on its actions, as many runs on each task."""

    def __init__(self, args: argparse.Namespace):
        """See :class:`Trainer`."""
        super().__init__(args)
        self.optimizer = evolution.optimizer(args.learning_rate)

    def improve(self, state, noise_key, tasks):
        """See :class:`Trainer`."""
        weights, runs = self.unravel(state.center), 2 * self.args.pairs
        tried = [
            ppo.explore(self.training[name], runs, weights, setting, key)
            for name, setting, key in tasks
        ]
        losses = [np.asarray(found, np.float64) for found, _ in tried]
        trace = jax.tree.map(lambda *x: jnp.concatenate(x), *(t for _, t in tried))
        rewards = -np.concatenate([evolution.scores(found) for found in losses])
        center, optimizer_state = ppo.improve(
            self.optimizer,
            self.unravel,
            state.center,
            state.optimizer_state,
            trace,
            ppo.advantages(trace, rewards),
        )
        return evolution.follow(state, center, optimizer_state), losses


TRAINERS = {"ppo": ByPPO, "evolution": ByEvolution}
