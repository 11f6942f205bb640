"""Whole trainings under candidate policies, many at once, as users run them."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from optax_adaptive import (
    Controller,
    eval_params,
    scale_by_controller,
    with_averaging,
    with_rollback,
)
from optax_adaptive.controllers import learned
from optax_adaptive.controllers.learned.policy_network import PolicyWeights
from optax_adaptive.transforms import _rules
from policy import families

Array = jax.Array
WINDOW = 8  # that scale_by_controller keeps: of the longest slope in the features
WORST = 1e3  # a loss that is not finite, or above it, counts as this


class Setting(NamedTuple):
    """How a task is set to the policies."""

    offset: Array  # shape=(), dtype=float32: decades by which the base rate is off
    steps: Array  # shape=(), dtype=int32: length of the run
    is_known: Array  # shape=(), dtype=bool: is it given to the policy?
    is_annealed: Array  # shape=(), dtype=bool: does the base rate follow a cosine?


def setting(
    offset: float, steps: float, is_known: bool, is_annealed: bool = False
) -> Setting:
    """Whole steps, with the dtypes that keep it from being compiled anew."""
    return Setting(
        jnp.float32(offset),
        jnp.int32(steps),
        jnp.bool_(is_known),
        jnp.bool_(is_annealed),
    )


def train(
    sample: Callable[[Array], families.Problem],
    steps: int,
    tx: optax.GradientTransformationExtraArgs,
    key: Array,
) -> tuple[Any, families.Problem, Any]:
    """One training; batches depend on the key alone, so vmap draws them once."""
    problem_key, init_key, batch_key = jax.random.split(key, 3)
    problem = sample(problem_key)
    params = problem.init(init_key)

    def step(carry, key):
        params, state = carry
        loss, grads = jax.value_and_grad(problem.loss)(params, key)
        updates, state = tx.update(grads, state, params, value=loss)
        return (optax.apply_updates(params, updates), state), None

    keys = jax.random.split(batch_key, steps)
    (params, state), _ = jax.lax.scan(step, (params, tx.init(params)), keys)
    return params, problem, state


def final(problem: families.Problem, params: Any) -> Array:
    """Validation loss, () float32, at most ``WORST``."""
    loss = problem.evaluate(params)
    return jnp.where(loss < WORST, loss, WORST)  # NaN compares false


class Task(NamedTuple):
    """A task as it is set, before its first step."""

    problem: families.Problem
    params: Any
    base: optax.GradientTransformation
    batch_key: Array
    steps: Array
    horizon: Array  # shape=(), dtype=float32: steps, or inf where they are not given


class Training(NamedTuple):
    """A training under way."""

    params: Any
    state: Any
    count: Array  # shape=(), dtype=int32: steps so far
    notes: Any  # of whoever looks on


def set_task(family: families.Family, setting: Setting, key: Array) -> Task:
    """Draws the task, its first parameters and, by a key, its batches."""
    problem_key, init_key, batch_key = jax.random.split(key, 3)
    problem = families.sample(family, problem_key)
    rate = family.learning_rate * 10.0**setting.offset

    def schedule(count):
        cosine = (1 + jnp.cos(jnp.pi * count / setting.steps)) / 2
        return rate * jnp.where(setting.is_annealed, cosine, 1.0)

    return Task(
        problem=problem,
        params=problem.init(init_key),
        base=families.OPTIMIZERS[family.optimizer](schedule),
        batch_key=batch_key,
        steps=setting.steps,
        horizon=jnp.where(setting.is_known, setting.steps, jnp.inf),
    )


def transformation(task: Task, rule: Controller) -> Any:
    """The rule as users chain it."""
    scaled = optax.chain(task.base, scale_by_controller(rule, window=WINDOW))
    return with_averaging(with_rollback(scaled))


def go_on(
    task: Task,
    rule: Controller,
    training: Training,
    goes_on: Callable[[Any], Any] = lambda state: True,
    note: Callable[[Any, Any], Any] = lambda notes, state: notes,
) -> Training:
    """Trains to the end, or while ``goes_on``, given the state; notes each state."""
    tx = transformation(task, rule)

    def step(training):
        params, state, count, notes = training
        key = jax.random.fold_in(task.batch_key, count)
        loss, grads = jax.value_and_grad(task.problem.loss)(params, key)
        updates, state = tx.update(grads, state, params, value=loss)
        params = optax.apply_updates(params, updates)
        return Training(params, state, count + 1, note(notes, state))

    return jax.lax.while_loop(
        lambda training: (training.count < task.steps) & goes_on(training.state),
        step,
        training,
    )


def after_search(task: Task, rule: Controller, notes: Any = ()) -> Training:
    """The search that opens a run: it does not depend on the policy."""
    state = transformation(task, rule).init(task.params)
    start = Training(task.params, state, jnp.zeros((), jnp.int32), notes)

    def searches(state):
        return _rules.requests(state.inner_state).probe > 0

    return go_on(task, rule, start, searches)


def final_loss(task: Task, training: Training) -> Array:
    """Validation loss of the averaged weights, at most ``WORST``."""
    return final(task.problem, eval_params(training.state, training.params))


@partial(jax.jit, static_argnums=0)
def policy_losses(
    family: families.Family,
    policies: PolicyWeights,
    setting: Setting,
    key: Array,
) -> Array:
    """Final validation losses of the averaged weights.

    Args:
      family: The task family.
      policies: Their weights, all with a leading axis.
      setting: How it is set.
      key: Draws the task, its first parameters and its batches.

    Returns:
      float32, one a policy, at most ``WORST``.
    """
    task = set_task(family, setting, key)
    first = jax.tree.map(lambda leaf: leaf[0], policies)
    tried = after_search(task, learned(task.horizon, first))

    def loss_of(weights):
        return final_loss(task, go_on(task, learned(task.horizon, weights), tried))

    return jax.vmap(loss_of)(policies)


def cosine_loss(family: families.Family, offset: Array, key: Array) -> Array:
    """Final validation loss under a cosine to 0 from a base rate off by ``offset``."""
    schedule = optax.cosine_decay_schedule(1.0, family.steps)
    base = families.OPTIMIZERS[family.optimizer](family.learning_rate * 10.0**offset)
    tx = optax.chain(base, optax.scale_by_schedule(schedule))
    tx = optax.with_extra_args_support(tx)
    params, problem, _ = train(partial(families.sample, family), family.steps, tx, key)
    return final(problem, params)


@partial(jax.jit, static_argnums=0)
def cosine_losses(family: families.Family, offsets: Array, key: Array) -> Array:
    """The same on one task, one an offset."""
    return jax.vmap(partial(cosine_loss, family), in_axes=(0, None))(offsets, key)
