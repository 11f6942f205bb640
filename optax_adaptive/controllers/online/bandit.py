"""bandit: a factor around an anchor, chosen by what its choices have earned so far."""

from collections.abc import Callable
from functools import partial
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp

from optax_adaptive import rl
from optax_adaptive._controller import Array, Controller
from optax_adaptive.controllers.learned.policy_network import PolicyWeights
from optax_adaptive.controllers.learned.policy_network import act as action_of
from optax_adaptive.controllers.online import offline_prior
from optax_adaptive.controllers.online._residual import (
    ACTIONS,
    Learner,
    nearest_arm,
    residual,
)
from optax_adaptive.state.validation import check_choice

# What an action earns beside the no-op is a parabola through 0, whose slope there is
# linear in what the prior's network wants. The fourth is the level of all rewards.
_SIZE = 4
_SCALE = 10.0  # reward of a regret of 1, the unit of the prior
_PRECISION = 100.0  # blocks that the prior is worth: those of a few runs
_LEVEL_PRECISION = 0.1  # and that of the level
_DEVIATION = 1.0  # of a reward
_DISCOUNT = 0.98  # what a block is worth a block later
_STEP_SIZE = 0.3  # of Exp3.S, which learns each arm by itself
_SHARING = 0.02  # of its weights, to every arm
_EPSILON = 0.1  # share of random actions in its draws, times the exploration


class Exp3sState(NamedTuple):
    """What :func:`bandit` learns by Exp3.S; else it is ``rl.BanditStatistics``."""

    log_weights: Array  # shape=(13,), dtype=float32: beside the prior's odds
    probabilities: Array  # shape=(13,), dtype=float32: of the last draw


def bandit(
    algorithm: Literal["thompson", "ucb", "exp3s"] = "thompson",
    alpha: float | Array = 2.3,
    repeat: int | Array = 4,
    seed: int | Array = 0,
    prior: offline_prior.Prior | None = None,
) -> Controller:
    """Goes on learning which factor around an anchor lets the loss fall fastest.

    The anchor is whatever the chain does already. An action, one of thirteen from -1 to
    1, multiplies its rate by ``exp(alpha * action)`` for ``repeat`` windows and never
    compounds. What an action earns is a parabola whose slope is linear in the action
    that :func:`actor_critic` would begin with. The prior of its weights was fitted
    offline, to what each action would have ended with in thousands of states of small
    trainings; in the run, an action is rewarded with the fall of the loss from the
    first to the last of its windows (with the fall of what
    :func:`optax_adaptive.observe` is given, where it is given any), less the mean fall
    so far, in standard errors and clipped at 3.

    Use it within :func:`optax_adaptive.with_averaging`, as in the example, or
    :func:`optax_adaptive.autotune`: there it sees what noise costs. Without, and with
    ``feedback="observe"``, it knows less of how far a rate is from the best one. Where
    the schedule ends at 0 evaluate the parameters, else those of
    :func:`optax_adaptive.eval_params`.

    All learners share what becomes of the actions that they choose. Taken is what their
    *mean* leads to, which falls at once and rises slowly: nothing, if it is within a
    fifth of the bound, and three times what is beyond. And no action is above the
    *reach*: it starts at the lowest one, so that a run begins at ``exp(-alpha)`` times
    the anchor's rate, and grows upwards, half the bound a block up to the anchor's rate
    and a quarter above it, unless the loss (or what :func:`optax_adaptive.observe` is
    given) rises beyond its noise. Where another rate is in force, as after the search
    of :func:`optax_adaptive.autotune` or of a rule before it in :func:`then`, that is
    the anchor: it starts there, is never above it, and only a blow-up takes it back.

    Args:
      algorithm: ``"thompson"`` draws from the posterior of the weights, fitted with
        discount; ``"ucb"`` takes its upper confidence bound; ``"exp3s"`` takes the
        prior for the log odds of the actions, and adds to them a weight for each action
        by itself.
      alpha: Log of the largest factor, above 0: the factor stays within
        ``exp(-alpha)`` and ``exp(alpha)``. The prior was fitted for log 10.
      repeat: Windows that an action is held, at least 2. A run should have 20 actions
        or more: ``steps / (repeat * accumulation_size)``.
      seed: Of the exploration, an integer of at least 0. ``"ucb"`` draws nothing.
      prior: Another prior, from :func:`load_prior`. Defaults to the one
        shipped.

    Returns:
      A :class:`~optax_adaptive.Controller`. Chain it behind a schedule, or combine it
      with another rule by :func:`anchored`; alone it moves around the base rate.

    Raises:
      ValueError: If an argument is out of its range, or an array of ``prior`` is of
        another shape or not finite.
      TypeError: If ``prior`` is something else.

    Example:
      >>> import optax
      >>> from optax_adaptive import controllers, scale_by_controller, with_averaging
      >>> tx = optax.chain(
      ...     optax.adam(optax.cosine_decay_schedule(1e-3, 2000)),
      ...     scale_by_controller(controllers.bandit(), accumulation_size=10),
      ... )
      >>> tx = with_averaging(tx)

    Reference:
      Russac, Vernade and Cappé, `Weighted linear bandits for non-stationary
      environments <https://arxiv.org/abs/1909.09146>`_, 2019. Auer et al., `The
      nonstochastic multiarmed bandit problem
      <https://doi.org/10.1137/S0097539701398375>`_, 2002. Bandits for the learning
      rate: Donâncio et al., `Dynamic learning rate for deep reinforcement learning: a
      bandit approach <https://arxiv.org/abs/2410.12598>`_, 2024
    """
    check_choice("algorithm", algorithm, ("thompson", "ucb", "exp3s"))
    first = offline_prior.checked(prior)
    wanted_action = partial(action_of, PolicyWeights(*map(jnp.asarray, first.actor)))
    prior_mean = _SCALE * jnp.append(first.bandit, jnp.float32(0))
    if algorithm == "exp3s":
        learner = _exp3s(wanted_action, prior_mean)
    else:
        learner = _linear(wanted_action, prior_mean, algorithm)
    return residual("bandit", learner, alpha, repeat, seed)


def _linear(
    wanted_action: Callable[[Array], Array],
    prior_mean: Array,
    algorithm: Literal["thompson", "ucb"],
) -> Learner:
    """Rewards are linear in what an arm has, with weights the same for all of them."""
    precision = jnp.full(_SIZE, _PRECISION, jnp.float32).at[-1].set(_LEVEL_PRECISION)

    def act(statistics, features, key, exploration):
        del exploration  # there is less as the posterior narrows
        belief = rl.posterior(statistics, prior_mean, precision)
        x = all_arm_features(wanted_action(features))
        if algorithm == "thompson":
            scores = rl.thompson_scores(key, belief, x, _DEVIATION)
        else:
            scores = rl.ucb_scores(belief, x, _DEVIATION)
        return jnp.array(ACTIONS, jnp.float32)[jnp.argmax(scores)], statistics

    def learn(statistics, transition):
        return rl.update_statistics(
            statistics,
            arm_features(wanted_action(transition.features_tm1), transition.a_tm1),
            transition.r_t,
            _DISCOUNT,
        )

    return Learner(lambda: rl.empty_statistics(_SIZE), act, learn)


def _exp3s(wanted_action: Callable[[Array], Array], prior_mean: Array) -> Learner:
    """Each arm has a weight of its own, beside the odds that the prior gives it."""

    def init_fn():
        arms = len(ACTIONS)
        return Exp3sState(
            log_weights=jnp.zeros((arms,), jnp.float32),
            probabilities=jnp.full((arms,), 1 / arms, jnp.float32),
        )

    def act(state, features, key, exploration):
        # What so many blocks of the rewards that the prior says would have added up to.
        x = all_arm_features(wanted_action(features))
        known = _STEP_SIZE * _PRECISION * (x @ prior_mean)
        probabilities = rl.exp3s_probabilities(
            known + state.log_weights, _EPSILON * exploration
        )
        noise = jax.random.gumbel(key, probabilities.shape, jnp.float32)
        arm = jnp.argmax(jnp.log(probabilities) + noise)
        state = state._replace(probabilities=probabilities)
        return jnp.array(ACTIONS, jnp.float32)[arm], state

    def learn(state, transition):
        arm = nearest_arm(transition.a_tm1)
        # With the probability of the action that was taken, to which several may lead.
        leads_there = jax.vmap(nearest_arm)(transition.choices_tm1) == arm
        probability = jnp.sum(jnp.where(leads_there, state.probabilities, 0.0))
        log_weights = rl.exp3s_update(
            state.log_weights,
            jnp.full_like(state.probabilities, probability),
            arm,
            transition.r_t,
            _STEP_SIZE,
            _SHARING,
        )
        return state._replace(log_weights=log_weights)

    return Learner(init_fn, act, learn)


def all_arm_features(wanted: Array) -> Array:
    """:func:`arm_features` of each of ``ACTIONS``, float32 of shape ``(13, 4)``."""
    return jax.vmap(arm_features, (None, 0))(wanted, jnp.array(ACTIONS, jnp.float32))


def arm_features(wanted: Array, action: Array) -> Array:
    """What the reward of an action is linear in, float32 of shape ``(4,)``."""
    one = jnp.ones((), jnp.float32)
    return jnp.stack([action * wanted, action, jnp.square(action), one])
