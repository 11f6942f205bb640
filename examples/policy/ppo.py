"""PPO on whole trainings: actions are drawn, and a run has one reward, at its end.

Schulman et al., *Proximal policy optimization algorithms*,
https://arxiv.org/abs/1707.06347, 2017; advantages by *High-dimensional continuous
control using generalized advantage estimation*, https://arxiv.org/abs/1506.02438, 2015.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from optax_adaptive import Controller
from optax_adaptive.controllers.learned import state_features
from optax_adaptive.controllers.learned.policy_network import PolicyWeights, score
from optax_adaptive.controllers.learned.rule import (
    LARGEST_STEP,
    below_blow_up,
    featurize,
    policy_rule,
    searched,
)
from optax_adaptive.rl import (
    clipped_surrogate,
    gaussian_log_prob,
    generalized_advantages,
)
from optax_adaptive.state import tag
from optax_adaptive.state.packing import unpack
from optax_adaptive.transforms import _observation
from policy import families, rollout

Array = jax.Array
DEVIATION = 0.4  # of the action before tanh
MOST = 192  # decisions of a run that are looked at
LAMBDA, EPSILON, PASSES = 0.95, 0.2, 16
RIDGE = 10.0  # of the linear critic, in decisions


class Explored(NamedTuple):
    """State of the rule that explores."""

    rule_state: Any
    features: Array  # shape=(SIZE,), dtype=float32: at the newest decision
    action: Array  # shape=(), dtype=float32: taken there, before tanh
    decisions: Array  # shape=(), dtype=int32


class Trace(NamedTuple):
    """The decisions of a run, or of several: with a leading axis."""

    features: Array  # shape=(MOST, SIZE), dtype=float32
    actions: Array  # shape=(MOST,), dtype=float32: before tanh
    mask: Array  # shape=(MOST,), dtype=bool


def exploring(
    horizon: Any, weights: PolicyWeights, key: Array, deviation: float | Array
) -> Controller:
    """``learned`` with normal noise on each action, but on those after a blow-up."""
    rule = policy_rule(horizon, weights)

    def init_fn():
        none = jnp.zeros((state_features.SIZE,), jnp.float32)
        zero = jnp.zeros((), jnp.float32)
        return Explored(rule.init(), none, zero, jnp.zeros((), jnp.int32))

    def update_fn(observation, state):
        log_scale, after = rule.update(observation, state.rule_state)
        is_decision = jnp.isfinite(observation.value)
        seen = featurize(state.rule_state, observation, horizon)
        noise = jax.random.normal(jax.random.fold_in(key, state.decisions))
        action = score(weights, seen.features) + deviation * noise
        moved = observation.log_scale + LARGEST_STEP * jnp.tanh(action)
        moved = below_blow_up(moved, seen.memory)
        taken = after.feature_memory._replace(previous_action=jnp.tanh(action))
        explored = Explored(
            after._replace(feature_memory=taken),
            seen.features,
            action,
            state.decisions + 1,
        )
        as_it_was = state._replace(rule_state=after)
        return jnp.where(is_decision, moved, log_scale), optax.tree.where(
            is_decision, explored, as_it_was
        )

    explores = rule._replace(
        init=init_fn,
        update=update_fn,
        request=lambda state: rule.request(state.rule_state),
        begin=lambda state, found: state._replace(
            rule_state=rule.begin(state.rule_state, found)
        ),
    )
    return searched(None, explores)


@partial(jax.jit, static_argnums=(0, 1))
def explore(
    family: families.Family,
    count: int,
    weights: PolicyWeights,
    setting: rollout.Setting,
    key: Array,
    deviation: float | Array = DEVIATION,
) -> tuple[Array, Trace]:
    """Final losses of so many runs on one task, and what was decided in them."""
    task = rollout.set_task(family, setting, key)
    action_key = jax.random.fold_in(key, 1)

    def rule(run):
        run_key = jax.random.fold_in(action_key, run)
        return exploring(task.horizon, weights, run_key, deviation)

    layout = _observation.layout(rule(0), rollout.WINDOW)

    def note(trace, state):
        words = tag.unwrap_any(state.inner_state.inner_state[1].controller_memory)
        memory = unpack(layout, words)
        explored = memory.controller_state.second_state.rule_state
        at = jnp.where(explored.decisions > 0, explored.decisions - 1, MOST)
        return Trace(
            trace.features.at[at].set(explored.features, mode="drop"),
            trace.actions.at[at].set(explored.action, mode="drop"),
            trace.mask.at[at].set(True, mode="drop"),
        )

    empty = Trace(
        jnp.zeros((MOST, state_features.SIZE), jnp.float32),
        jnp.zeros((MOST,), jnp.float32),
        jnp.zeros((MOST,), jnp.bool_),
    )
    tried = rollout.after_search(task, rule(0), empty)

    def ended_run(run):
        ended = rollout.go_on(task, rule(run), tried, note=note)
        return rollout.final_loss(task, ended), ended.notes

    return jax.vmap(ended_run)(jnp.arange(count))


def advantages(trace: Trace, rewards: np.ndarray) -> np.ndarray:
    """Of the decisions of several runs, in units of their spread; else 0.

    The critic is linear in the features, and fitted to these runs.

    Args:
      trace: Their decisions.
      rewards: float64, one a run, at its end.

    Returns:
      float32 of shape (runs, MOST).
    """
    mask = np.asarray(trace.mask)
    if not mask.any():  # all runs ended with their search
        return np.zeros(mask.shape, np.float32)
    seen = np.asarray(trace.features, np.float64)
    seen = np.concatenate([seen, np.ones_like(seen[..., :1])], -1)
    x, y = seen[mask], np.broadcast_to(rewards[:, None], mask.shape)[mask]
    critic = np.linalg.solve(x.T @ x + RIDGE * np.eye(x.shape[1]), x.T @ y)
    values = np.pad((seen @ critic) * mask, ((0, 0), (0, 1)))
    last = mask & ~np.pad(mask, ((0, 0), (0, 1)))[:, 1:]
    found = jax.vmap(partial(generalized_advantages, lambda_=LAMBDA))(
        jnp.float32(values), jnp.float32(last * rewards[:, None]), jnp.float32(mask)
    )
    found = np.asarray(found) * mask
    centred = found - found[mask].mean()
    return (centred / max(found[mask].std(), 1e-6) * mask).astype(np.float32)


@partial(jax.jit, static_argnums=(0, 1))
def improve(
    optimizer: optax.GradientTransformation,
    unravel: Callable[[Array], PolicyWeights],
    center: Array,
    state: optax.OptState,
    trace: Trace,
    advantage: Array,
) -> tuple[Array, optax.OptState]:
    """Some steps on the clipped surrogate; ``center`` is the weights, end to end."""

    def log_probs(center):
        means = jax.vmap(jax.vmap(partial(score, unravel(center))))(trace.features)
        deviation = jnp.full_like(means, math.log(DEVIATION))
        return gaussian_log_prob(trace.actions, means, deviation)

    before = log_probs(center)

    def loss(center):
        gained = clipped_surrogate(log_probs(center) - before, advantage, EPSILON)
        return -jnp.sum(gained * trace.mask) / jnp.maximum(jnp.sum(trace.mask), 1)

    def step(carry, _):
        center, state = carry
        updates: Any
        updates, state = optimizer.update(jax.grad(loss)(center), state)
        return (center + updates, state), None

    return jax.lax.scan(step, (center, state), length=PASSES)[0]
