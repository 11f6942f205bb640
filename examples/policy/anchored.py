"""Trainings around a cosine that is too low, right or too high.

Under an online learner, with what it saw and did in each block; and with a constant
factor, which say what each action would have ended with.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from methods.rules import learner_window
from optax_adaptive import Controller, Observation, with_averaging
from optax_adaptive.signals import update_size, window_statistics
from optax_adaptive.signals.history import filled, push
from policy import families, rollout

Array = jax.Array
WINDOW = 32  # that scale_by_controller keeps by default


class Trace(NamedTuple):
    """What a learner saw and did, a row a window."""

    features: Array  # shape=(windows, SIZE), dtype=float32: when the block began
    action: Array  # shape=(windows,), dtype=float32: taken
    is_first: Array  # shape=(windows,), dtype=bool: of its block


def scale_and_measure() -> optax.GradientTransformationExtraArgs:
    """Multiplies updates by a factor, and meters losses and averaging gaps."""

    def init_fn(params):
        del params
        return window_statistics.first("min")

    def update_fn(updates, state, params=None, **extra_args):
        del params
        scale, measured = extra_args["scale"], extra_args["measured"]
        state = window_statistics.accumulate(
            state, extra_args["value"], jnp.ones((), bool)
        )
        none = jnp.zeros((), jnp.float32)  # no copy, and no slope towards it
        state = window_statistics.add_gap(
            state, measured.averaging_gap, none, measured.has_gap
        )
        return jax.tree.map(lambda u: scale * u, updates), state

    return optax.GradientTransformationExtraArgs(init_fn, update_fn)


def learner_run(
    family: families.Family,
    make_rule: Callable[[Any, Array], Controller],
    prior: Any,
    offset: Array,
    seed: Array,
    key: Array,
) -> tuple[Array, Trace]:
    """One training within ``with_averaging``, but with a loop a window.

    Under ``scale_by_controller`` a rule is behind a ``lax.cond`` every step, both sides
    of which are computed once it is under ``vmap``: a factor of five in time. Here a
    factor is in force one step later.

    Args:
      family: The task family.
      make_rule: prior, seed -> rule.
      prior: What ``make_rule`` is given.
      offset: Decades of the cosine's peak from the family's learning rate.
      seed: Of the rule.
      key: Draws the task, its first parameters and its batches.

    Returns:
      The final validation loss, and the trace.
    """
    size = learner_window(family.steps)
    rule = make_rule(prior, seed)
    problem_key, init_key, batch_key = jax.random.split(key, 3)
    problem = families.sample(family, problem_key)
    base = optax.chain(
        families.OPTIMIZERS[family.optimizer](family.learning_rate * 10.0**offset),
        optax.scale_by_schedule(optax.cosine_decay_schedule(1.0, family.steps)),
        scale_and_measure(),
    )
    tx = with_averaging(base)

    def step(carry, key):
        params, state, log_scale = carry
        loss, grads = jax.value_and_grad(problem.loss)(params, key)
        scale = jnp.exp(log_scale)
        updates, state = tx.update(grads, state, params, value=loss, scale=scale)
        size = update_size.largest_entry(updates) / scale
        return (optax.apply_updates(params, updates), state, log_scale), size

    def window(carry, keys):
        training, history, errors, windows, index, state = carry
        training, sizes = jax.lax.scan(step, training, keys)
        params, _, log_scale = training
        tx_state: Any = training[1]
        *base_state, statistics = tx_state.inner_state
        gap, slope = window_statistics.mean_gap(statistics)
        is_finite = statistics.size == size
        windows += is_finite.astype(jnp.int32)
        history = push(history, statistics.mean, is_finite)
        errors = push(errors, window_statistics.standard_error(statistics), is_finite)
        observation = Observation(
            step=size * (index + 1) - 1,
            value=jnp.where(is_finite, statistics.mean, jnp.inf),
            history=history,
            mask=filled(WINDOW, windows),
            standard_error=errors,
            validation=jnp.zeros(()),
            is_validated=jnp.zeros((), bool),
            log_scale=log_scale,
            update_size=sizes[-1],
            gradient_size=jnp.zeros(()),
            displacement=jnp.zeros(()),
            averaging_gap=gap,
            has_averaging_gap=statistics.gaps_size > 0,
            return_slope=slope,
            is_rolled_back=jnp.zeros((), bool),
        )
        log_scale, state = rule.update(observation, state)
        trace = Trace(state.features, state.action, state.block.windows == 0)
        inner_state = (*base_state, window_statistics.open_window(statistics))
        tx_state = tx_state._replace(inner_state=inner_state)
        training = (params, tx_state, log_scale)
        return (training, history, errors, windows, index + 1, state), trace

    params = problem.init(init_key)
    none = jnp.zeros((WINDOW,))
    training = (params, tx.init(params), jnp.float32(rule.initial_log_scale))
    start = (training, none, none, jnp.int32(0), jnp.int32(0), rule.init())
    windows = family.steps // size
    keys = jax.random.split(batch_key, family.steps)[: windows * size]
    (training, *_), trace = jax.lax.scan(window, start, keys.reshape(windows, size))
    return rollout.final(problem, training[0]), trace


def try_learners(family: families.Family, make_rule: Callable) -> Callable[..., Any]:
    """(priors, offsets, seeds, keys), a run each -> losses, traces."""
    return jax.jit(jax.vmap(partial(learner_run, family, make_rule)))


def try_constants(family: families.Family) -> Callable[[Any, Array], Array]:
    """(decades, keys) -> log of the final losses with constant factors, a row a key."""
    losses = partial(rollout.cosine_loss, family)
    grid = jax.jit(jax.vmap(jax.vmap(losses, (0, None)), (None, 0)))
    return lambda decades, keys: jnp.log(grid(jnp.float32(decades), keys))
