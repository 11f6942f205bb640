"""learned: a tiny frozen policy, trained offline on the final validation loss."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from optax_adaptive._controller import Array, Controller, Observation
from optax_adaptive._validate import check_count
from optax_adaptive.controllers import (
    _features,
    _period,
    _policy,
    _shrinkage,
    _trial,
)

# Of the log factor, in one decision: a factor of 2, and a decade after a blow-up.
LARGEST_STEP, LARGEST_RETREAT = math.log(2.0), math.log(10.0)
BELOW_BLOW_UP = math.log(2.0)


class LearnedState(NamedTuple):
    """State of :func:`learned`."""

    trial: _trial.Trial
    feature_memory: _features.FeatureMemory
    periods: _period.Periods


class Seen(NamedTuple):
    """What is known once a period is closed."""

    periods: _period.Periods
    pooled: Observation  # the period as if it were a window
    memory: _features.FeatureMemory
    features: Array  # shape=(SIZE,), dtype=float32


def take_in(state: LearnedState, observation: Observation) -> LearnedState:
    """Adds a window to the open period."""
    return state._replace(periods=_period.add(state.periods, observation))


def see(state: LearnedState, observation: Observation, horizon: float | Array) -> Seen:
    """Closes the open period, which holds this window already."""
    periods, pooled = _period.close(state.periods, observation)
    part = _period.ELAPSED_PERIOD
    memory = _features.remember(state.feature_memory, pooled, part)
    features = _features.features(memory, pooled, horizon)
    return Seen(periods, pooled, memory, features)


def below_blow_up(log_scale: Array, seen: Seen) -> Array:
    """At most half of the factor that blew up, if one has."""
    ceiling = seen.memory.blow_up_log_scale - BELOW_BLOW_UP
    has_blown_up = seen.memory.has_blown_up
    return jnp.where(has_blown_up, jnp.minimum(log_scale, ceiling), log_scale)


def learned(
    total_steps: int | Array | None = None,
    weights: _policy.PolicyWeights | None = None,
) -> Controller:
    """Draws the rate by a policy trained on thousands of small trainings.

    It opens with trials, each of which :func:`with_rollback` undoes. The first is a
    climb from 1e-4 by a decade a window, half of one once the loss has fallen, to the
    edge where it falls no more, or is above its first value. Then come three to five
    runs of a window at rates below that. The policy goes on from a quarter of the rate
    of the best, some 60 steps into the run. It sees the state of the training in
    numbers without a unit (how steeply the loss falls, against its noise and against
    all progress so far; what noise costs, against what is still won; how far the rate
    is below that of the best short run; ...) and moves the factor from where it is, by
    up to 2 at a time. Where the updates shrink, as by a schedule that it is put around,
    the factor makes that good, up to 20 times. It was trained by PPO on nothing but the
    final validation loss of averaged weights, with rollback. So use it with both, and
    first of all with averaging, by which it sees what noise costs::

        with_averaging(
            with_rollback(chain(adam(1e-3), scale_by_controller(learned())))
        )

    Around an optimizer without momentum, as ``adam(1e-3, b1=0.0)``, the interpolation
    of :func:`with_averaging` in its place mostly wins (0.7, with a ``fraction`` of 0.1;
    docs/learned.md).

    Decisions come once a window at first, and then at intervals of 1/32 of the steps
    so far, or 1/64 of ``total_steps`` where that is less, over which windows are
    averaged: so a long run looks like a slow short one. The rate stays below five times
    the one it begins at, and below half of any that blew up later; after that it may
    move by a decade at once. A window has five steps, unless you say otherwise; with
    fewer, what a return to the parameters takes can be all of a short run. Bounds that
    the trials run into, as those of ``clip``, make what they say worthless. Where
    another rate is in force, as after :func:`range_test` in :func:`then`, that is taken
    for the answer, and there are no trials.

    Args:
      total_steps: Length of the run in optimizer steps, at least 1: the policy sees how
        much of it is left. None if unknown.
      weights: Another policy, from :func:`load_weights`. Defaults to the one shipped.

    Returns:
      A :class:`~optax_adaptive.Controller`.

    Raises:
      ValueError: If ``total_steps`` is not an integer of at least 1, or ``weights`` are
        of other shapes than those of a network for these features, or not finite.
      TypeError: If ``weights`` is something else.

    Example:
      >>> import optax
      >>> from optax_adaptive import controllers, scale_by_controller
      >>> from optax_adaptive import with_averaging, with_rollback
      >>> rule = controllers.learned(total_steps=2000)
      >>> tx = optax.chain(optax.adam(1e-3), scale_by_controller(rule))
      >>> tx = with_averaging(with_rollback(tx))

    Reference:
      After Xu et al., `Learning an adaptive learning rate schedule
      <https://arxiv.org/abs/1909.09712>`_, 2019; trained by the PPO of Schulman et al.
      (`2017 <https://arxiv.org/abs/1707.06347>`_).
    """
    horizon = math.inf if total_steps is None else total_steps
    if total_steps is not None:
        check_count("total_steps", total_steps)
    policy = _policy.checked(_policy.shipped_weights() if weights is None else weights)
    return _shrinkage.offset(drawing(horizon, policy))


def drawing(horizon: float | Array, policy: _policy.PolicyWeights) -> Controller:
    """The rule, but for what :func:`_shrinkage.offset` adds; ``horizon`` may be inf."""

    def init_fn():
        return LearnedState(
            trial=_trial.first_trial(),
            feature_memory=_features.first_memory(),
            periods=_period.first_periods(),
        )

    def decide(observation: Observation, state: LearnedState):
        is_finite = jnp.isfinite(observation.value)
        seen = see(state, observation, horizon)
        action = _policy.act(policy, seen.features)
        bound = jnp.where(is_finite, LARGEST_STEP, LARGEST_RETREAT)
        log_scale = below_blow_up(observation.log_scale + bound * action, seen)
        before = state.feature_memory
        is_trial = state.trial.number > 0
        trial, tried = _trial.advance(
            state.trial,
            before,
            seen.memory,
            seen.pooled.value,
            observation.log_scale,
        )
        trial = optax.tree.where(is_trial, trial, state.trial)
        is_undone = trial.number != state.trial.number
        log_scale = jnp.where(is_trial, tried, log_scale)
        anew = _features.begin_again(before, log_scale + _trial.BELOW)
        memory = seen.memory._replace(previous_action=action)
        memory = optax.tree.where(is_undone, anew, memory)
        return log_scale, LearnedState(
            trial=trial,
            feature_memory=memory,
            periods=_period.following(
                seen.periods,
                *(observation.step, horizon),
                # After a blow-up, or a trial, the parameters are others.
                is_fresh=~is_finite | is_undone,
                is_short=trial.number > 0,
            ),
        )

    def wait(observation: Observation, state: LearnedState):
        return observation.log_scale, state

    def update_fn(observation, state):
        state = take_in(state, observation)
        is_due = _period.is_over(state.periods, observation)
        return jax.lax.cond(is_due, decide, wait, observation, state)

    def trial(state):
        return state.trial.number

    def begin_fn(state, log_scale):
        # A rate that was searched for is as good as the trials' answer.
        edge = log_scale + _trial.BELOW
        return state._replace(
            trial=state.trial._replace(number=jnp.zeros((), jnp.int32)),
            feature_memory=_features.begin_again(state.feature_memory, edge),
        )

    return Controller(
        init_fn,
        update_fn,
        initial_log_scale=math.log(_trial.START),
        trial=trial,
        accumulation_size=5,
        begin=begin_fn,
    )
