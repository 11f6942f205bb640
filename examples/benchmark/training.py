"""One training as a pure function of base rate and seed, and its record."""

from collections.abc import Callable, Collection
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import optax_adaptive
from benchmark import records
from benchmark.tasks.task import Array, Task
from methods import registry, rules
from methods.method import Method

CHECKPOINTS = 40  # evaluations a run, equally spaced
# As the example scripts have. Schedules and peers that count in epochs get a fiftieth
# of the run as theirs, since few of these runs see their data 50 times.
EPOCHS = 50
# What a row may keep. Nothing reads all of it everywhere: a plan says what it keeps.
FIELDS = (
    "validation",  # the whole curve
    "best",  # of the validation metric so far: all that times to a target need
    "learning_rate",  # of each checkpoint
    "mean_rate",  # geometric, after the quarter of a run in which searches lie
    "late_loss_std",
    "train",
    "found_scale",  # of autotune, as the next two
    "rollbacks",
    "search_steps",
)
Build = Callable[[Array, int, Array], Method]  # from base rate, steps and seed


class Trace(NamedTuple):
    """What is recorded of a run; metrics are of the weights that the method names."""

    initial: Array  # shape=(), validation metric before the first step
    validation: Array  # shape=(checkpoints,)
    learning_rate: Array  # shape=(checkpoints,), nominal; nan where there is none
    late_loss_std: Array  # shape=(), of the training losses of the last tenth
    train: Array  # shape=(), metric at the end, as the two others
    test: Array  # shape=(), read once
    is_finite: Array  # shape=(), parameters and last losses
    found: dict[str, Array]  # of autotune: what its search found, and what it took


def make_training(
    task: Task, optimizer: str, method: str
) -> Callable[[Array, Array], Trace]:
    """A training from base rate and seed, to be jitted and, where it pays, vmapped."""

    def build(rate: Array, steps: int, seed: Array) -> Method:
        epoch = steps // EPOCHS
        return registry.build(method, optimizer, rate, steps, epoch, seed=seed)

    return training_of(task, build, autotunes=method in rules.AUTOTUNE)


def training_of(
    task: Task,
    build: Build,
    autotunes: bool,
    checkpoints: int = CHECKPOINTS,
) -> Callable[[Array, Array], Trace]:
    """The same of any method, which ``build`` makes from base rate, steps and seed.

    Two methods get the same initial parameters and the same batches from a seed.
    """
    block = task.steps // checkpoints
    steps = block * checkpoints
    late = max(checkpoints // 10, 1)

    def train(rate: Array, seed: Array) -> Trace:
        how = build(rate, steps, seed)
        key = jax.random.key(seed)

        def step(carry, key):
            params, state = carry
            loss, grads = jax.value_and_grad(task.loss)(params, key)
            updates, state = how.optimizer.update(grads, state, params, value=loss)
            is_searching = jnp.array(False)
            if autotunes:
                is_searching = optax_adaptive.summary(state)["phase"] < 3
            return (optax.apply_updates(params, updates), state), (loss, is_searching)

        def to_checkpoint(carry, index_and_keys):
            index, keys = index_and_keys
            (params, state), (losses, is_searching) = jax.lax.scan(step, carry, keys)
            evaluated = how.eval_params(state, params)
            rate_now = how.learning_rate(state, (index + 1) * block - 1)
            metric = task.evaluate(evaluated, "validation")
            recorded = (metric, losses, jnp.float32(rate_now), is_searching.sum())
            return (params, state), recorded

        params = task.init(key)
        start = how.optimizer.init(params)
        keys = jax.random.split(jax.random.fold_in(key, 1), steps)
        (params_out, state), (validation, losses, rates, searched) = jax.lax.scan(
            to_checkpoint,
            (params, start),
            (jnp.arange(checkpoints), keys.reshape(checkpoints, block)),
        )
        evaluated = how.eval_params(state, params_out)
        leaves = jax.tree.leaves((evaluated, losses[-1]))
        found = {}
        if autotunes:
            numbers = optax_adaptive.summary(state)
            found = {name: numbers[name] for name in ("found_scale", "rollbacks")}
            found["search_steps"] = searched.sum()
        return Trace(
            initial=task.evaluate(how.eval_params(start, params), "validation"),
            validation=validation,
            learning_rate=rates,
            late_loss_std=losses[-late:].std(),
            train=task.evaluate(evaluated, "train"),
            test=task.evaluate(evaluated, "test"),
            is_finite=jnp.stack([jnp.isfinite(x).all() for x in leaves]).all(),
            found=found,
        )

    return train


def as_row(
    trace: Trace, is_accuracy: bool, keeps: Collection[str] = FIELDS
) -> dict[str, Any]:
    """The record of one run as JSON takes it, with null for what isn't finite.

    An average of weights that were finite at the end may hide that some were not on the
    way; a run counts as failed if it *ends* with anything that is not finite.

    Args:
      trace: Of the run.
      is_accuracy: Whether more is better.
      keeps: What is recorded beside the first and the final metrics, of ``FIELDS``.
        Without the curve, ``validation`` is its last point.

    Returns:
      The row.
    """
    settled = trace.learning_rate[CHECKPOINTS // 4 :]
    with np.errstate(divide="ignore", invalid="ignore"):
        mean_rate = np.exp(np.log(np.asarray(settled, np.float64)).mean())
    validation = trace.validation if "validation" in keeps else trace.validation[-1:]
    row: dict[str, Any] = {
        "failed": None if trace.is_finite else "not finite",
        "initial": records.number(trace.initial),
        "validation": records.numbers(validation, 4),
        "test": records.number(trace.test),
    }
    better = np.fmax if is_accuracy else np.fmin  # they pass over nan
    others = {
        "best": records.numbers(better.accumulate(trace.validation), 4),
        "learning_rate": records.numbers(trace.learning_rate, 3),
        "mean_rate": records.number(mean_rate),
        "late_loss_std": records.number(trace.late_loss_std),
        "train": records.number(trace.train),
    }
    others |= {name: records.number(value) for name, value in trace.found.items()}
    return row | {name: value for name, value in others.items() if name in keeps}
