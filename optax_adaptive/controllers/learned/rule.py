"""learned: a tiny frozen policy, trained offline on the final validation loss."""

import math
from typing import NamedTuple

import jax.numpy as jnp

from optax_adaptive._controller import Array, Controller, Found, Observation, nothing
from optax_adaptive.controllers.learned import (
    feature_memory,
    policy_network,
    schedule_compensation,
    state_features,
)
from optax_adaptive.controllers.search import SearchSettings, search
from optax_adaptive.controllers.search.settings import LEAST_STEPS
from optax_adaptive.controllers.then import then
from optax_adaptive.signals import history
from optax_adaptive.state.trees import saturating_add
from optax_adaptive.state.validation import check_count, is_concrete

# Largest moves of the log scale in a decision: a factor of 2; a decade at a blow-up.
LARGEST_STEP, LARGEST_RETREAT = math.log(2.0), math.log(10.0)
BELOW_BLOW_UP = math.log(2.0)
# The policy takes a scale this far above the one found for one that blows up. It stays
# below half of that, which is five times the scale that it starts at.
ABOVE_FOUND = math.log(10.0)
# The policy starts from half the rate of autotune, since no restart undoes what too
# high a learning rate has done.
SEARCH = SearchSettings(even_factor=0.1, most_factor=0.5)
SHORTEST = 5  # steps of an accumulation window
ELAPSED_WINDOW = 1 / 32  # of the steps so far, at most
TOTAL_WINDOW = 1 / 64  # and of all steps
SEARCHED = 16  # windows that the policy counts the search as


class PolicyState(NamedTuple):
    """State of the policy as a rule."""

    feature_memory: feature_memory.FeatureMemory
    windows: Array  # shape=(), dtype=int32: finite ones since the last blow-up
    size: Array  # shape=(), dtype=int32: steps of the next window
    gradient_factor: Array  # shape=(), dtype=float32: that of Found


class StateFeatures(NamedTuple):
    """The features once a window has ended, and what they were computed from."""

    memory: feature_memory.FeatureMemory
    features: Array  # shape=(SIZE,), dtype=float32
    windows: Array  # shape=(), dtype=int32: finite ones since the last blow-up


def featurize(
    state: PolicyState, observation: Observation, total_steps: float | Array
) -> StateFeatures:
    """The features of a new window; ``total_steps`` may be inf."""
    windows = saturating_add(state.windows, jnp.isfinite(observation.value))
    size = observation.mask.shape[0]
    since = observation.mask & history.filled(size, windows)
    observation = observation._replace(mask=since)
    memory = feature_memory.remember(state.feature_memory, observation, ELAPSED_WINDOW)
    features = state_features.features(memory, observation, total_steps)
    return StateFeatures(memory, features, windows)


def below_blow_up(log_scale: Array, memory: feature_memory.FeatureMemory) -> Array:
    """At most half of the factor that blew up, if one has."""
    bound = memory.blow_up_log_scale - BELOW_BLOW_UP
    bounded = jnp.minimum(log_scale, bound)
    return jnp.where(memory.has_blown_up, bounded, log_scale)


def learned(
    total_steps: int | Array | None = None,
    weights: policy_network.PolicyWeights | None = None,
) -> Controller:
    """Sets the learning rate by a policy trained on thousands of small training runs.

    It starts with the :func:`search`, as :func:`autotune` does. From the learning rate
    found on, the policy sees the state of the training in numbers without a unit (how
    steeply the loss falls, over its noise and over the total improvement; the averaging
    gap, over the decrease of the loss; how far the learning rate is below one that is
    taken to be too high; ...) and multiplies or divides the factor by up to 2 at a
    time. If the updates shrink, as by a schedule in the optimizer, the factor
    compensates for that, up to 20 times. It was trained by PPO on nothing but the final
    validation loss of averaged weights, with rollback. So it needs both wrappers::

        with_averaging(
            with_rollback(chain(adam(1e-3), scale_by_controller(learned())))
        )

    With an optimizer without momentum, as ``adam(1e-3, b1=0.0)``, ``interpolation`` of
    :func:`with_averaging` in place of momentum is mostly better (0.7, with a
    ``fraction`` of 0.1; docs/research/learned.md).

    Decisions come after windows of 1/32 of the steps so far, or 1/64 of ``total_steps``
    where that is less, and of five steps at least: so a long run looks like a slow
    short one. The learning rate stays below five times the one it starts at, and below
    half of any at which the loss blew up later; at a blow-up it may move by a decade at
    once. After another rule that sets the learning rate, as :func:`range_test` in
    :func:`then`, it starts from that, and there is no search.

    Args:
      total_steps: Length of the run in optimizer steps, at least 1: the policy sees how
        much of it is left. None if it is not given.
      weights: Another policy, from :func:`load_weights`. Defaults to the one shipped.

    Returns:
      A :class:`~optax_adaptive.Controller`.

    Raises:
      ValueError: If ``total_steps`` is not an integer of at least 1, or ``weights`` are
        of other shapes than those of a network for these features, or not finite.
      TypeError: If ``weights`` do not come from :func:`load_weights`.

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
    if total_steps is not None:
        check_count("total_steps", total_steps)
    policy = policy_network.checked(
        policy_network.shipped_weights() if weights is None else weights
    )
    steps = math.inf if total_steps is None else total_steps
    return searched(total_steps, policy_rule(steps, policy))


def searched(total_steps: int | Array | None, rule: Controller) -> Controller:
    """A rule as :func:`policy_rule` builds it, after the search."""
    search_steps = None
    if total_steps is not None and is_concrete(total_steps):
        search_steps = int(total_steps) if total_steps >= LEAST_STEPS else None
    first = search(search_steps, SEARCH)
    return then(first, schedule_compensation.compensated(rule))._replace(name="learned")


def policy_rule(
    total_steps: float | Array, policy: policy_network.PolicyWeights
) -> Controller:
    """The policy as a rule; ``total_steps`` may be inf."""

    def init_fn():
        return PolicyState(
            feature_memory=feature_memory.first_memory(),
            windows=jnp.zeros((), jnp.int32),
            size=jnp.full((), SHORTEST, jnp.int32),
            gradient_factor=jnp.ones((), jnp.float32),
        )

    def update_fn(observation: Observation, state: PolicyState):
        is_finite = jnp.isfinite(observation.value)
        gap = observation.averaging_gap / state.gradient_factor
        observation = observation._replace(averaging_gap=gap)
        memory, features, windows = featurize(state, observation, total_steps)
        action = policy_network.act(policy, features)
        bound = jnp.where(is_finite, LARGEST_STEP, LARGEST_RETREAT)
        log_scale = below_blow_up(observation.log_scale + bound * action, memory)
        steps = observation.step.astype(jnp.float32) + 1.0
        size = jnp.minimum(ELAPSED_WINDOW * steps, TOTAL_WINDOW * total_steps)
        return log_scale, PolicyState(
            feature_memory=memory._replace(previous_action=action),
            windows=jnp.where(is_finite, windows, 0),
            size=jnp.maximum(jnp.floor(size).astype(jnp.int32), SHORTEST),
            gradient_factor=state.gradient_factor,
        )

    def begin_fn(state: PolicyState, found: Found):
        is_measured = ~jnp.isinf(found.first_value)
        zero = jnp.zeros((), jnp.float32)
        noise = found.standard_deviation / math.sqrt(SHORTEST)
        memory = feature_memory.after_search(
            windows=jnp.where(is_measured, SEARCHED, 0).astype(jnp.int32),
            first_value=jnp.where(is_measured, found.first_value, zero),
            noise=jnp.where(is_measured, noise, zero),
            too_high=found.log_scale + ABOVE_FOUND,
        )
        return state._replace(
            feature_memory=memory, gradient_factor=found.gradient_factor
        )

    def request_fn(state: PolicyState):
        return nothing()._replace(accumulation_size=state.size)

    return Controller(
        init_fn, update_fn, request=request_fn, begin=begin_fn, name="policy"
    )
