"""Whole trainings under candidate policies, many at once, as users run them."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from optax_adaptive import (
    _return,
    eval_params,
    scale_by_controller,
    with_averaging,
    with_rollback,
)
from optax_adaptive.controllers import learned
from optax_adaptive.controllers._policy import PolicyWeights
from policy import kinds

Array = jax.Array
WORST = 1e3  # a loss that is not finite, or above it, counts as this


class Setting(NamedTuple):
    """How a task is set to the policies."""

    offset: Array  # shape=(), dtype=float32: decades by which the base rate is off
    steps: Array  # shape=(), dtype=int32: length of the run
    is_known: Array  # shape=(), dtype=bool: are they told of it?
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
    kind: kinds.Kind, tx: optax.GradientTransformationExtraArgs, key: Array
) -> tuple[Any, kinds.Problem, Any]:
    """One training; batches depend on the key alone, so vmap draws them once."""
    problem_key, init_key, batch_key = jax.random.split(key, 3)
    problem = kinds.draw(kind, problem_key)
    params = problem.init(init_key)

    def step(carry, key):
        params, state = carry
        loss, grads = jax.value_and_grad(problem.loss)(params, key)
        updates, state = tx.update(grads, state, params, value=loss)
        return (optax.apply_updates(params, updates), state), None

    keys = jax.random.split(batch_key, kind.steps)
    (params, state), _ = jax.lax.scan(step, (params, tx.init(params)), keys)
    return params, problem, state


def final(problem: kinds.Problem, params: Any) -> Array:
    """Validation loss, () float32, at most ``WORST``."""
    loss = problem.evaluate(params)
    return jnp.where(loss < WORST, loss, WORST)  # NaN compares false


def policy_losses(
    kind: kinds.Kind,
    policies: PolicyWeights,
    setting: Setting,
    key: Array,
) -> Array:
    """Final validation losses of the averaged weights.

    The trials that open a run do not depend on the policy, and are made once.

    Args:
      kind: The kind of task.
      policies: Their weights, all with a leading axis.
      setting: How it is set.
      key: Draws the task, its first parameters and its batches.

    Returns:
      float32, one a policy, at most ``WORST``.
    """
    problem_key, init_key, batch_key = jax.random.split(key, 3)
    problem = kinds.draw(kind, problem_key)
    rate = kind.learning_rate * 10.0**setting.offset

    def schedule(count):
        cosine = (1 + jnp.cos(jnp.pi * count / setting.steps)) / 2
        return rate * jnp.where(setting.is_annealed, cosine, 1.0)

    base = kinds.OPTIMIZERS[kind.optimizer](schedule)
    horizon = jnp.where(setting.is_known, setting.steps, jnp.inf)

    def transformation(weights):
        rule = scale_by_controller(learned(horizon, weights), window=3)
        return with_averaging(with_rollback(optax.chain(base, rule)))

    def run(weights, training, goes_on):
        tx = transformation(weights)

        def step(training):
            params, state, count = training
            key = jax.random.fold_in(batch_key, count)
            loss, grads = jax.value_and_grad(problem.loss)(params, key)
            updates, state = tx.update(grads, state, params, value=loss)
            return optax.apply_updates(params, updates), state, count + 1

        return jax.lax.while_loop(
            lambda training: (training[2] < setting.steps) & goes_on(training[1]),
            step,
            training,
        )

    def hold(weights):
        params, state, _ = run(weights, tried, lambda state: True)
        return final(problem, eval_params(state, params))

    first = jax.tree.map(lambda leaf: leaf[0], policies)
    params = problem.init(init_key)
    start = params, transformation(first).init(params), jnp.zeros((), jnp.int32)
    tried = run(first, start, lambda state: _return.trial(state) > 0)
    return jax.vmap(hold)(policies)


def cosine_loss(kind: kinds.Kind, offset: Array, key: Array) -> Array:
    """Final validation loss under a cosine to 0 from a base rate off by ``offset``."""
    schedule = optax.cosine_decay_schedule(1.0, kind.steps)
    base = kinds.OPTIMIZERS[kind.optimizer](kind.learning_rate * 10.0**offset)
    tx = optax.chain(base, optax.scale_by_schedule(schedule))
    tx = optax.with_extra_args_support(tx)
    params, problem, _ = train(kind, tx, key)
    return final(problem, params)


def compare_policies(kind: kinds.Kind) -> Callable[..., Array]:
    """(policies, setting, key) -> losses, one a policy."""
    return jax.jit(partial(policy_losses, kind))


def try_cosines(kind: kinds.Kind) -> Callable[..., Array]:
    """(offsets, key) -> losses of cosines on the same task."""
    return jax.jit(jax.vmap(partial(cosine_loss, kind), in_axes=(0, None)))
