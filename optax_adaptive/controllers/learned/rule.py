"""learned: a tiny frozen policy, trained offline on the final validation loss."""

import math
from typing import NamedTuple

import jax.numpy as jnp

from optax_adaptive._controller import Array, Controller, Found, Observation, nothing
from optax_adaptive.controllers.learned import (
    feature_memory,
    policy_network,
    schedule_compensation,
)
from optax_adaptive.controllers.search import SearchSettings, search
from optax_adaptive.controllers.then import then
from optax_adaptive.signals import history
from optax_adaptive.state.trees import select
from optax_adaptive.state.validation import check_count, is_concrete

# Of the log factor, in one decision: a factor of 2, and a decade after a blow-up.
LARGEST_STEP, LARGEST_RETREAT = math.log(2.0), math.log(10.0)
BELOW_BLOW_UP = math.log(2.0)
# How far above the rate found the policy takes one to be that blows up. It stays below
# half of that, which is five times what it begins at.
ABOVE_FOUND = math.log(10.0)
# Best rate of a candidate, for the policy to begin at: less than autotune's, since no
# restart makes good what a rate too high has done. Of 0.05 to 0.25, on four tasks.
LONG_OVER_SHORT = 0.1
SHORTEST = 5  # steps of a window
ELAPSED_WINDOW = 1 / 32  # of the steps so far, at most
TOTAL_WINDOW = 1 / 64  # and of all steps
SEARCHED = 16  # windows that the policy takes the search to have had
LEAST_STEPS = 200  # of a run whose length the search can go by


class DrawnState(NamedTuple):
    """State of the policy as a rule."""

    feature_memory: feature_memory.FeatureMemory
    fresh: Array  # shape=(), dtype=int32: windows since the params were others
    size: Array  # shape=(), dtype=int32: steps of the next window


class Seen(NamedTuple):
    """What is known once a window has ended."""

    memory: feature_memory.FeatureMemory
    features: Array  # shape=(SIZE,), dtype=float32
    fresh: Array  # shape=(), dtype=int32: windows since the params were others


def see(state: DrawnState, observation: Observation, horizon: float | Array) -> Seen:
    """Takes in a window."""
    fresh = state.fresh + jnp.isfinite(observation.value).astype(jnp.int32)
    size = observation.mask.shape[0]
    since = observation.mask & history.filled(size, fresh)
    observation = observation._replace(mask=since)
    memory = feature_memory.remember(state.feature_memory, observation, ELAPSED_WINDOW)
    return Seen(memory, feature_memory.features(memory, observation, horizon), fresh)


def below_blow_up(log_scale: Array, seen: Seen) -> Array:
    """At most half of the factor that blew up, if one has."""
    ceiling = seen.memory.blow_up_log_scale - BELOW_BLOW_UP
    has_blown_up = seen.memory.has_blown_up
    return jnp.where(has_blown_up, jnp.minimum(log_scale, ceiling), log_scale)


def learned(
    total_steps: int | Array | None = None,
    weights: policy_network.PolicyWeights | None = None,
) -> Controller:
    """Draws the rate by a policy trained on thousands of small trainings.

    It opens with the :func:`search`, as :func:`autotune` does. From the rate found on,
    the policy sees the state of the training in numbers without a unit (how steeply the
    loss falls, against its noise and against the total improvement; the averaging gap,
    against the decrease; how far the rate is below one that is taken to be too high;
    ...) and moves the factor from where it is, by up to 2 at a time. Where the updates
    shrink, as by a schedule that it is put around, the factor makes that good, up to 20
    times. It was trained by PPO on nothing but the final validation loss of averaged
    weights, with rollback. So it needs both::

        with_averaging(
            with_rollback(chain(adam(1e-3), scale_by_controller(learned())))
        )

    Around an optimizer without momentum, as ``adam(1e-3, b1=0.0)``, the interpolation
    of :func:`with_averaging` in its place mostly wins (0.7, with a ``fraction`` of 0.1;
    docs/learned.md).

    Decisions come after windows of 1/32 of the steps so far, or 1/64 of ``total_steps``
    where that is less, and of five steps at least: so a long run looks like a slow
    short one. The rate stays below five times the one it begins at, and below half of
    any that blew up later; after that it may move by a decade at once. Where another
    rate is in force, as after :func:`range_test` in :func:`then`, that is taken for the
    answer, and there is no search.

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
    policy = policy_network.checked(
        policy_network.shipped_weights() if weights is None else weights
    )
    return searched(total_steps, drawing(horizon, policy))


def searched(total_steps: int | Array | None, rule: Controller) -> Controller:
    """A policy as :func:`drawing` makes it, after the search."""
    length = None
    if total_steps is not None and is_concrete(total_steps):
        steps = float(total_steps)
        length = int(steps) if LEAST_STEPS <= steps < math.inf else None
    first = search(length, SearchSettings(long_over_short=LONG_OVER_SHORT))
    return then(first, schedule_compensation.offset(rule))._replace(
        name="learned", needs=("with_averaging", "with_rollback")
    )


def drawing(horizon: float | Array, policy: policy_network.PolicyWeights) -> Controller:
    """The policy as a rule; ``horizon`` may be inf."""

    def init_fn():
        return DrawnState(
            feature_memory=feature_memory.first_memory(),
            fresh=jnp.zeros((), jnp.int32),
            size=jnp.full((), SHORTEST, jnp.int32),
        )

    def update_fn(observation: Observation, state: DrawnState):
        is_finite = jnp.isfinite(observation.value)
        seen = see(state, observation, horizon)
        action = policy_network.act(policy, seen.features)
        bound = jnp.where(is_finite, LARGEST_STEP, LARGEST_RETREAT)
        log_scale = below_blow_up(observation.log_scale + bound * action, seen)
        steps = observation.step.astype(jnp.float32) + 1.0
        size = jnp.minimum(ELAPSED_WINDOW * steps, TOTAL_WINDOW * horizon)
        return log_scale, DrawnState(
            feature_memory=seen.memory._replace(previous_action=action),
            fresh=jnp.where(is_finite, seen.fresh, 0),
            size=jnp.maximum(jnp.floor(size).astype(jnp.int32), SHORTEST),
        )

    def begin_fn(state: DrawnState, found: Found):
        too_high = found.log_scale + ABOVE_FOUND
        known = state.feature_memory._replace(
            windows=jnp.full((), SEARCHED, jnp.int32),
            first_value=found.first_value,
            noise=found.deviation / math.sqrt(SHORTEST),
        )
        is_unknown = jnp.isinf(found.first_value)
        memory = select(is_unknown, state.feature_memory, known)
        return state._replace(
            feature_memory=feature_memory.begin_again(memory, too_high)
        )

    def request_fn(state: DrawnState):
        return nothing()._replace(accumulation_size=state.size)

    return Controller(
        init_fn, update_fn, request=request_fn, begin=begin_fn, name="policy"
    )
