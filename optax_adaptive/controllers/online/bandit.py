"""bandit: chooses a factor around an anchor by the rewards of its choices so far."""

from collections.abc import Callable
from functools import partial
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp

from optax_adaptive import rl
from optax_adaptive._controller import Array, Controller
from optax_adaptive.controllers.learned.policy_network import PolicyWeights, act
from optax_adaptive.controllers.online import offline_prior
from optax_adaptive.controllers.online._learner import (
    ACTIONS,
    Learner,
    nearest_action,
)
from optax_adaptive.controllers.online._residual import residual
from optax_adaptive.controllers.online.settings import OnlineSettings, or_defaults
from optax_adaptive.state.validation import check_choice

# The reward of an action, less that of action 0, is a parabola through 0, whose slope
# there is linear in the action of the prior's network. The fourth feature is constant:
# its weight is the mean of all rewards.
_SIZE = 4


class Exp3sState(NamedTuple):
    """What :func:`bandit` learns by Exp3.S; otherwise it is ``rl.BanditStatistics``."""

    log_weights: Array  # shape=(13,), dtype=float32: added to the prior's log odds
    probabilities: Array  # shape=(13,), dtype=float32: of the last random choice


def bandit(
    algorithm: Literal["thompson", "ucb", "exp3s"] = "thompson",
    alpha: float | Array = 2.3,
    repeat: int | Array = 4,
    seed: int | Array = 0,
    prior: offline_prior.Prior | None = None,
    settings: OnlineSettings | None = None,
) -> Controller:
    """Keeps learning which factor around an anchor lowers the loss fastest.

    The anchor is the learning rate that the rest of the chain sets. An action, one of
    thirteen from -1 to 1, multiplies it by ``exp(alpha * action)`` for ``repeat``
    windows; factors do not compound. The reward of an action is modelled as a parabola
    whose slope is linear in the action that the prior of :func:`actor_critic` proposes.
    The prior of its weights was fitted offline, to the final losses that followed each
    action in thousands of states of small training runs. In the run, the reward of an
    action is the decrease of the loss from the first to the last of its windows (if
    :func:`optax_adaptive.observe` is given values, the decrease of those), less the
    mean decrease so far, in standard errors and clipped at 3; a rise or a blow-up
    costs more.

    Use it within :func:`optax_adaptive.with_averaging`, as in the example, which
    measures the averaging gap for it. Without that, or with ``feedback="observe"``, it
    estimates less well how far a learning rate is from the best one. If the schedule
    ends at 0, evaluate the parameters, else those of
    :func:`optax_adaptive.eval_params`.

    All online learners treat a proposed action alike. The action taken depends on the
    *mean* of the proposals, which falls at once and rises slowly: it is 0 where the
    mean is within a fifth of the bound (the dead band), and otherwise three times the
    excess over it. And no action is above the *action ceiling*. This starts at the
    lowest action, so that a run starts at ``exp(-alpha)`` times the anchor. It grows
    by half the bound per block, above the anchor by a quarter, unless the loss (or what
    :func:`optax_adaptive.observe` is given) rises beyond its noise. After a search, or
    another rule before it in :func:`then`, the learning rate found is the anchor: the
    rule starts there and never exceeds it, and only a blow-up lowers the ceiling.

    Args:
      algorithm: ``"thompson"`` samples from the posterior of the weights, fitted with
        discount; ``"ucb"`` takes its upper confidence bound; ``"exp3s"`` takes the log
        odds of the actions from the prior, and adds a weight for each action.
      alpha: Log of the largest factor, above 0: the factor stays within
        ``exp(-alpha)`` and ``exp(alpha)``. The prior was fitted for log 10.
      repeat: Windows that an action lasts, at least 2. A run should have 20 actions or
        more: ``steps / (repeat * accumulation_size)``.
      seed: Seed of the exploration, an integer of at least 0. ``"ucb"`` is
        deterministic.
      prior: Another prior, from :func:`load_prior`. Defaults to the one shipped.
      settings: Other constants, a ``controllers.online.OnlineSettings``.

    Returns:
      A :class:`~optax_adaptive.Controller`. Chain it behind a schedule, or combine it
      with another rule by :func:`anchored`; alone it moves around the base learning
      rate.

    Raises:
      ValueError: If an argument is out of its range, or an array of ``prior`` is of
        another shape or not finite.
      TypeError: If ``prior`` does not come from :func:`load_prior`, or ``settings`` are
        of another kind.

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
    settings = or_defaults(settings)
    first = offline_prior.checked(prior)
    network_action = partial(act, PolicyWeights(*map(jnp.asarray, first.actor)))
    prior_mean = settings.regret_scale * jnp.append(first.bandit, jnp.float32(0))
    if algorithm == "exp3s":
        learner = _exp3s(network_action, prior_mean, settings)
    else:
        learner = _linear(network_action, prior_mean, algorithm, settings)
    # Their memories are alike, but not what is in them.
    name = "bandit" if algorithm == "thompson" else f"bandit-{algorithm}"
    return residual(name, learner, alpha, repeat, seed, settings)


def _linear(
    network_action: Callable[[Array], Array],
    prior_mean: Array,
    algorithm: Literal["thompson", "ucb"],
    settings: OnlineSettings,
) -> Learner:
    """Rewards are linear in the features of an action, by weights that all share."""
    precision = jnp.full(_SIZE, settings.prior_precision, jnp.float32)
    precision = precision.at[-1].set(settings.level_precision)

    def act(statistics, features, key, exploration):
        del exploration  # there is less as the posterior narrows
        belief = rl.posterior(statistics, prior_mean, precision)
        x = features_of_all(network_action(features))
        if algorithm == "thompson":
            scores = rl.thompson_scores(key, belief, x, settings.reward_std)
        else:
            scores = rl.ucb_scores(belief, x, settings.reward_std)
        return jnp.array(ACTIONS, jnp.float32)[jnp.argmax(scores)], statistics

    def learn(statistics, transition):
        proposed = network_action(transition.features_tm1)
        return rl.update_statistics(
            statistics,
            features_of(proposed, transition.a_tm1),
            transition.r_t,
            settings.bandit_discount,
        )

    return Learner(lambda: rl.empty_statistics(_SIZE), act, learn)


def _exp3s(
    network_action: Callable[[Array], Array],
    prior_mean: Array,
    settings: OnlineSettings,
) -> Learner:
    """Each action has a weight of its own, on top of the odds that the prior gives."""
    step_size = settings.exp3s_step_size

    def init_fn():
        count = len(ACTIONS)
        return Exp3sState(
            log_weights=jnp.zeros((count,), jnp.float32),
            probabilities=jnp.full((count,), 1 / count, jnp.float32),
        )

    def act(state, features, key, exploration):
        # The rewards that the prior expects, summed over the blocks that it is worth.
        x = features_of_all(network_action(features))
        prior_weights = step_size * settings.prior_precision * (x @ prior_mean)
        probabilities = rl.exp3s_probabilities(
            prior_weights + state.log_weights, settings.exp3s_epsilon * exploration
        )
        noise = jax.random.gumbel(key, probabilities.shape, jnp.float32)
        chosen = jnp.argmax(jnp.log(probabilities) + noise)
        state = state._replace(probabilities=probabilities)
        return jnp.array(ACTIONS, jnp.float32)[chosen], state

    def learn(state, transition):
        taken = nearest_action(transition.a_tm1)
        # Several proposals may end in the action taken: their probabilities add up.
        is_taken = jax.vmap(nearest_action)(transition.choices_tm1) == taken
        probability = jnp.sum(jnp.where(is_taken, state.probabilities, 0.0))
        log_weights = rl.exp3s_update(
            state.log_weights,
            jnp.full_like(state.probabilities, probability),
            taken,
            transition.r_t,
            step_size,
            settings.exp3s_sharing,
        )
        return state._replace(log_weights=log_weights)

    return Learner(init_fn, act, learn)


def features_of_all(proposed: Array) -> Array:
    """:func:`features_of` each of ``ACTIONS``, float32 of shape ``(13, 4)``."""
    return jax.vmap(features_of, (None, 0))(proposed, jnp.array(ACTIONS, jnp.float32))


def features_of(proposed: Array, action: Array) -> Array:
    """What the reward of an action is linear in, float32 of shape ``(4,)``."""
    one = jnp.ones((), jnp.float32)
    return jnp.stack([action * proposed, action, jnp.square(action), one])
