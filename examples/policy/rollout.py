"""Whole trainings under candidate policies, many at once, as users run them."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax

from optax_adaptive import (
    eval_params,
    scale_by_controller,
    with_averaging,
    with_rollback,
)
from optax_adaptive.controllers.learned import PolicyWeights, learned
from policy import kinds

Array = jax.Array
WORST = 1e3  # a loss that is not finite, or above it, counts as this


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


def policy_loss(
    kind: kinds.Kind, weights: PolicyWeights, offset: Array, horizon: Array, key: Array
) -> Array:
    """Final validation loss of the averaged weights.

    Args:
      kind: The kind of task.
      weights: The policy.
      offset: Decades by which the base rate is off.
      horizon: What the policy is told of the length: the steps, or inf.
      key: Draws the task, its first parameters and its batches.

    Returns:
      float32 of shape ``()``, at most ``WORST``.
    """
    base = kinds.OPTIMIZERS[kind.optimizer](kind.learning_rate * 10.0**offset)
    rule = scale_by_controller(
        learned(horizon, weights), accumulation_size=kind.accumulation_size, window=3
    )
    tx = with_averaging(with_rollback(optax.chain(base, rule)))
    params, problem, state = train(kind, tx, key)
    return final(problem, eval_params(state, params))


def cosine_loss(kind: kinds.Kind, offset: Array, key: Array) -> Array:
    """Final validation loss under a cosine to 0 from a base rate off by ``offset``."""
    schedule = optax.cosine_decay_schedule(1.0, kind.steps)
    base = kinds.OPTIMIZERS[kind.optimizer](kind.learning_rate * 10.0**offset)
    tx = optax.chain(base, optax.scale_by_schedule(schedule))
    tx = optax.with_extra_args_support(tx)
    params, problem, _ = train(kind, tx, key)
    return final(problem, params)


def compare_policies(kind: kinds.Kind) -> Callable[..., Array]:
    """(policies, offset, horizon, key) -> losses, one a policy on the same task."""
    loss = partial(policy_loss, kind)
    return jax.jit(jax.vmap(loss, in_axes=(0, None, None, None)))


def try_offsets(kind: kinds.Kind) -> Callable[..., Array]:
    """(policy, offsets, horizon, key) -> losses, one an offset on the same task."""
    loss = partial(policy_loss, kind)
    return jax.jit(jax.vmap(loss, in_axes=(None, 0, None, None)))


def try_cosines(kind: kinds.Kind) -> Callable[..., Array]:
    """(offsets, key) -> losses of cosines on the same task."""
    return jax.jit(jax.vmap(partial(cosine_loss, kind), in_axes=(0, None)))
