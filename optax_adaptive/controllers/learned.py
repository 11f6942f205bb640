"""learned: a tiny frozen policy, trained offline on the final validation loss."""

import functools
import json
import math
from importlib import resources
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from optax_adaptive import _history
from optax_adaptive._controller import Array, Controller, Observation
from optax_adaptive._validate import check_count
from optax_adaptive.controllers import _features

START = 1e-4  # first factor
PERIODS = 8  # that it looks back on
ELAPSED_PERIOD = 1 / 32  # of the steps so far between decisions, at most
TOTAL_PERIOD = 1 / 64  # and of all steps
# Largest step of the log factor: a factor of 2 once the rate matters, up to a decade
# while it does nothing or far too much, which no finer step would tell apart.
COARSE, FINE = math.log(10.0), math.log(2.0)
# Part of the loss by which it may fall in a window before that is seen, a step later. A
# fall is in proportion to the rate, so where noise hides it, steps must be smaller.
UNSEEN = 0.4
# Share of the newest window in all progress from which on the rate is still far too
# small: a fall that is in proportion to the rate grows as fast as that.
GROWING = 0.5


class PolicyWeights(NamedTuple):
    """A network with one hidden layer of tanh units, and a linear path around it."""

    linear: Array  # shape=(SIZE,), dtype=float32
    hidden: Array  # shape=(SIZE, h), dtype=float32
    hidden_bias: Array  # shape=(h,), dtype=float32
    output: Array  # shape=(h,), dtype=float32
    output_bias: Array  # shape=(), dtype=float32


class LearnedState(NamedTuple):
    """State of :func:`learned`: windows are pooled into periods, one a decision."""

    feature_memory: _features.FeatureMemory
    period_means: Array  # shape=(PERIODS,), dtype=float32: oldest first
    periods: Array  # shape=(), dtype=int32: so far
    open_windows: Array  # shape=(), dtype=int32: finite ones in the open period
    open_mean: Array  # shape=(), dtype=float32: their mean
    open_error: Array  # shape=(), dtype=float32: mean of their standard errors
    next_decision: Array  # shape=(), dtype=float32: in steps


def learned(
    total_steps: int | Array | None = None, weights: PolicyWeights | None = None
) -> Controller:
    """Draws the rate by a policy trained on thousands of small trainings.

    The policy sees the state of the training in numbers without a unit (how steeply the
    loss falls, against its noise and against all progress so far; how far the rate is
    above those at which it fell; ...) and moves the factor from where it is, starting
    at 1e-4: by up to a decade at a time (less where the loss is noisy) until the loss
    falls and no longer falls ever faster, and then by up to 2. It was trained by
    evolution strategies on nothing but the final validation loss of averaged weights,
    with rollback. So use it with both::

        with_averaging(
            with_rollback(chain(adam(1e-3), scale_by_controller(learned())))
        )

    Decisions come once a window at first, and then at intervals of 1/32 of the steps
    so far, or 1/64 of ``total_steps`` where that is less, over which windows are
    averaged: so a long run looks like a slow short one. After a blow-up the factor
    stays below half of the one that blew up, and may move by a decade at once.

    Args:
      total_steps: Length of the run in optimizer steps, at least 1, towards whose end
        the policy anneals. None if it is unknown.
      weights: Another policy, as ``examples/train_policy.py`` makes. Defaults to the
        one shipped.

    Returns:
      A :class:`~optax_adaptive.Controller`.

    Raises:
      ValueError: If ``total_steps`` is not an integer of at least 1, or ``weights`` are
        for other features.

    Example:
      >>> import optax
      >>> from optax_adaptive import controllers, scale_by_controller
      >>> from optax_adaptive import with_averaging, with_rollback
      >>> rule = controllers.learned(total_steps=2000)
      >>> tx = optax.chain(optax.adam(1e-3), scale_by_controller(rule))
      >>> tx = with_averaging(with_rollback(tx))

    Reference:
      After Xu et al., `Learning an adaptive learning rate schedule
      <https://arxiv.org/abs/1909.09712>`_, 2019; trained by the evolution strategies of
      Salimans et al. (`2017 <https://arxiv.org/abs/1703.03864>`_).
    """
    horizon = math.inf if total_steps is None else total_steps
    if total_steps is not None:
        check_count("total_steps", total_steps)
    policy = shipped_weights() if weights is None else weights
    if np.shape(policy.linear) != (_features.SIZE,):
        raise ValueError(
            f"weights must be for {_features.SIZE} features, but they are for "
            f"{np.shape(policy.linear)}"
        )
    policy = PolicyWeights(*(jnp.asarray(leaf, jnp.float32) for leaf in policy))

    def init_fn():
        return LearnedState(
            feature_memory=_features.first_memory(),
            period_means=jnp.zeros((PERIODS,), jnp.float32),
            periods=jnp.zeros((), jnp.int32),
            open_windows=jnp.zeros((), jnp.int32),
            open_mean=jnp.zeros((), jnp.float32),
            open_error=jnp.zeros((), jnp.float32),
            next_decision=jnp.zeros((), jnp.float32),
        )

    def decide(observation: Observation, state: LearnedState):
        is_finite = jnp.isfinite(observation.value)
        period_means = _history.push(state.period_means, state.open_mean, is_finite)
        periods = state.periods + is_finite.astype(jnp.int32)
        windows = jnp.maximum(state.open_windows, 1).astype(jnp.float32)
        error = state.open_error / jnp.sqrt(windows)
        pooled = observation._replace(
            value=jnp.where(is_finite, state.open_mean, jnp.inf),
            history=period_means,
            mask=_history.filled(PERIODS, periods),
            standard_error=jnp.full((PERIODS,), error),
        )
        memory = _features.remember(state.feature_memory, pooled)
        seen = _features.features(memory, pooled, horizon)
        action = act(policy, seen)
        coarse = jnp.where(is_finite, climb(memory), COARSE)
        is_late = memory.has_descended & (memory.share < GROWING)
        bound = jnp.where(is_late & is_finite, FINE, coarse)
        step = observation.step.astype(jnp.float32) + 1.0
        period = jnp.minimum(ELAPSED_PERIOD * step, TOTAL_PERIOD * horizon)
        log_scale = observation.log_scale + bound * action
        ceiling = memory.blow_up_log_scale - FINE
        log_scale = jnp.where(
            memory.has_blown_up, jnp.minimum(log_scale, ceiling), log_scale
        )
        return log_scale, LearnedState(
            feature_memory=memory._replace(previous_action=action),
            period_means=period_means,
            # After a blow-up the parameters are others.
            periods=jnp.where(is_finite, periods, 0),
            open_windows=jnp.zeros((), jnp.int32),
            open_mean=jnp.zeros((), jnp.float32),
            open_error=jnp.zeros((), jnp.float32),
            next_decision=step + jnp.floor(period),
        )

    def wait(observation: Observation, state: LearnedState):
        return observation.log_scale, state

    def update_fn(observation, state):
        is_finite = jnp.isfinite(observation.value)
        windows = state.open_windows + is_finite.astype(jnp.int32)
        weight = jnp.where(is_finite, 1.0, 0.0)
        weight /= jnp.maximum(windows, 1).astype(jnp.float32)
        value = jnp.where(is_finite, observation.value, 0.0)
        error = observation.standard_error[-1]
        state = state._replace(
            open_windows=windows,
            open_mean=state.open_mean + weight * (value - state.open_mean),
            open_error=state.open_error + weight * (error - state.open_error),
        )
        step = observation.step.astype(jnp.float32) + 1.0
        is_due = ~is_finite | (step >= state.next_decision)
        return jax.lax.cond(is_due, decide, wait, observation, state)

    return Controller(init_fn, update_fn, initial_log_scale=math.log(START))


def climb(memory: _features.FeatureMemory) -> Array:
    """The largest step before the first descent, in [FINE, COARSE]."""
    seen = _features.DESCENT * memory.noise + 1e-30
    factor = UNSEEN * jnp.abs(memory.first_value) / seen
    return jnp.clip(jnp.log(factor + 1e-30), FINE, COARSE)


def score(policy: PolicyWeights, seen: Array) -> Array:
    """The action before tanh, for features of shape ``(SIZE,)``."""
    # Products and sums, not dots: their precision is the same on every device.
    hidden = jnp.sum(seen[:, None] * policy.hidden, axis=0) + policy.hidden_bias
    around = jnp.sum(seen * policy.linear) + policy.output_bias
    return around + jnp.sum(jnp.tanh(hidden) * policy.output)


def act(policy: PolicyWeights, seen: Array) -> Array:
    """The action in (-1, 1) for features of shape ``(SIZE,)``."""
    return jnp.tanh(score(policy, seen))


@functools.cache
def shipped_weights() -> PolicyWeights:
    """The policy of the package, read once."""
    path = resources.files("optax_adaptive.controllers") / "learned.json"
    numbers = json.loads(path.read_text())["weights"]
    leaves: Any = (
        np.asarray(numbers[name], np.float32) for name in PolicyWeights._fields
    )
    return PolicyWeights(*leaves)
