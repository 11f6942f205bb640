"""Trainings around a cosine that is too low, right or too high.

Two kinds: under an online learner, with what it saw and did in each block; and with a
constant factor, which say what each action would have ended with.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from optax_adaptive import Controller, Observation, _history
from policy import kinds, rollout

Array = jax.Array
WINDOW = 32  # that scale_by_controller keeps by default


class Trace(NamedTuple):
    """What a learner saw and did, a row a window."""

    features: Array  # shape=(windows, SIZE), dtype=float32: when the block began
    action: Array  # shape=(windows,), dtype=float32: taken
    is_first: Array  # shape=(windows,), dtype=bool: of its block


def window_size(kind: kinds.Kind) -> int:
    """Steps a window: 200 windows a run, of at least 5 steps."""
    return max(kind.steps // 200, 5)


def learner_run(
    kind: kinds.Kind,
    make_rule: Callable[[Any, Array], Controller],
    prior: Any,
    offset: Array,
    seed: Array,
    key: Array,
) -> tuple[Array, Trace]:
    """One training, as under ``scale_by_controller`` but with a loop a window.

    There a rule is behind a ``lax.cond`` every step, both sides of which are computed
    once it is under ``vmap``: a factor of five in time.

    Args:
      kind: The kind of task.
      make_rule: prior, seed -> rule.
      prior: What ``make_rule`` is given.
      offset: Decades of the cosine's peak from the kind's learning rate.
      seed: Of the rule.
      key: Draws the task, its first parameters and its batches.

    Returns:
      The final validation loss, and the trace.
    """
    size = window_size(kind)
    rule = make_rule(prior, seed)
    problem_key, init_key, batch_key = jax.random.split(key, 3)
    problem = kinds.draw(kind, problem_key)
    tx = optax.chain(
        kinds.OPTIMIZERS[kind.optimizer](kind.learning_rate * 10.0**offset),
        optax.scale_by_schedule(optax.cosine_decay_schedule(1.0, kind.steps)),
    )

    def step(carry, key):
        params, state, log_scale = carry
        loss, grads = jax.value_and_grad(problem.loss)(params, key)
        updates, state = tx.update(grads, state, params)
        updates = jax.tree.map(lambda u: jnp.exp(log_scale) * u, updates)
        return (optax.apply_updates(params, updates), state, log_scale), loss

    def window(carry, keys):
        training, history, errors, windows, index, state = carry
        training, losses = jax.lax.scan(step, training, keys)
        log_scale = training[2]
        mean = losses.mean()
        is_finite = jnp.isfinite(mean)
        windows += is_finite.astype(jnp.int32)
        history = _history.push(history, mean, is_finite)
        errors = _history.push(errors, losses.std(ddof=1) / np.sqrt(size), is_finite)
        observation = Observation(
            step=size * (index + 1) - 1,
            value=jnp.where(is_finite, mean, jnp.inf),
            history=history,
            mask=_history.filled(WINDOW, windows),
            standard_error=errors,
            validation=jnp.zeros(()),
            is_validated=jnp.zeros((), bool),
            log_scale=log_scale,
            noise_cost=jnp.zeros(()),
            has_noise_cost=jnp.zeros((), bool),
        )
        log_scale, state = rule.update(observation, state)
        trace = Trace(state.features, state.action, state.block.windows == 0)
        training = (*training[:2], log_scale)
        return (training, history, errors, windows, index + 1, state), trace

    params = problem.init(init_key)
    none = jnp.zeros((WINDOW,))
    training = (params, tx.init(params), jnp.float32(rule.initial_log_scale))
    start = (training, none, none, jnp.int32(0), jnp.int32(0), rule.init())
    windows = kind.steps // size
    keys = jax.random.split(batch_key, kind.steps)[: windows * size]
    (training, *_), trace = jax.lax.scan(window, start, keys.reshape(windows, size))
    return rollout.final(problem, training[0]), trace


def try_learners(kind: kinds.Kind, make_rule: Callable) -> Callable[..., Any]:
    """(priors, offsets, seeds, keys), a run each -> losses, traces."""
    return jax.jit(jax.vmap(partial(learner_run, kind, make_rule)))


def try_constants(kind: kinds.Kind) -> Callable[[Any, Array], Array]:
    """(decades, keys) -> log of the final losses with constant factors, a row a key."""
    losses = partial(rollout.cosine_loss, kind)
    grid = jax.jit(jax.vmap(jax.vmap(losses, (0, None)), (None, 0)))
    return lambda decades, keys: jnp.log(grid(jnp.float32(decades), keys))
