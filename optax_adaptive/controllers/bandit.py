"""bandit: a factor around an anchor, chosen by what its choices have earned so far."""

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from optax_adaptive import rl
from optax_adaptive._controller import Array, Controller
from optax_adaptive._validate import check_choice
from optax_adaptive.controllers._residual import ACTIONS, Learner, residual

# What an action earns beside the no-op, as a parabola through 0: two weights to be
# learned in place of five arms, of which each would be pulled too seldom.
_FEATURES = np.array([[a, a * a] for a in ACTIONS], np.float32)
_PRIOR_MEAN = np.array(
    [0.5, 0.0], np.float32
)  # upwards: what is seen within a block errs down
_PRIOR_PRECISION = np.array([4.0, 2.0], np.float32)  # blocks that it is worth
_DISCOUNT = 0.98  # what a block is worth a block later
_STEP_SIZE = 0.1  # of Exp3.S, which learns each arm by itself
_SHARING = 0.02  # of its weights, to every arm


class BanditState(NamedTuple):
    """What :func:`bandit` learns."""

    statistics: rl.BanditStatistics  # shapes=(2, 2) and (2,), dtype=float32
    log_weights: Array  # shape=(5,), dtype=float32: of Exp3.S
    probabilities: Array  # shape=(5,), dtype=float32: of its last draw
    arm: Array  # shape=(), dtype=int32: the last draw


def bandit(
    algorithm: Literal["thompson", "ucb", "exp3s"] = "thompson",
    alpha: float | Array = 1.3,
    repeat: int | Array = 4,
    seed: int | Array = 0,
) -> Controller:
    """Learns which factor around an anchor lets the loss fall fastest.

    The anchor is whatever the chain does already. An action in {-1, -1/2, 0, 1/2, 1}
    multiplies its rate by ``exp(alpha * action)`` for ``repeat`` windows and never
    compounds. An action is rewarded with the fall of the loss from the first to the
    last of its windows (with the fall of what :func:`optax_adaptive.observe` is given,
    where it is given any), less what blocks at the no-op have led to expect, in
    standard errors and clipped at 3. A fifth of the blocks, at random, are such no-ops.

    Two limits apply to all learners. The *reach* starts at the lowest action, so that a
    run begins at ``exp(-alpha)`` times the anchor's rate, and grows upwards, half the
    bound a block, unless the loss rises beyond its noise. And after 50 windows the
    actions fade to the anchor as long as the mean advantage over the no-op is not above
    0 with confidence.

    Args:
      algorithm: ``"thompson"`` draws from the posterior of a parabola through the
        no-op, fitted with discount; ``"ucb"`` takes its upper confidence bound;
        ``"exp3s"`` keeps a weight for each action by itself, and is slower.
      alpha: Log of the largest factor, above 0: the factor stays within
        ``exp(-alpha)`` and ``exp(alpha)``.
      repeat: Windows that an action is held, at least 2. A run should have 20 actions
        or more: ``steps / (repeat * accumulation_size)``.
      seed: Of the exploration, an integer of at least 0.

    Returns:
      A :class:`~optax_adaptive.Controller`. Chain it behind a schedule, or combine it
      with another rule by :func:`anchored`; alone it moves around the base rate.

    Raises:
      ValueError: If an argument is out of its range.

    Example:
      >>> import optax
      >>> from optax_adaptive import controllers, scale_by_controller
      >>> tx = optax.chain(
      ...     optax.adam(optax.cosine_decay_schedule(1e-3, 2000)),
      ...     scale_by_controller(controllers.bandit(), accumulation_size=10),
      ... )

    Reference:
      Russac, Vernade and Cappé, `Weighted linear bandits for non-stationary
      environments <https://arxiv.org/abs/1909.09146>`_, 2019. Auer et al., `The
      nonstochastic multiarmed bandit problem
      <https://doi.org/10.1137/S0097539701398375>`_, 2002. Bandits for the learning
      rate: Donâncio et al., `Dynamic learning rate for deep reinforcement learning: a
      bandit approach <https://arxiv.org/abs/2410.12598>`_, 2024
    """
    check_choice("algorithm", algorithm, ("thompson", "ucb", "exp3s"))

    def init_fn():
        arms = len(ACTIONS)
        return BanditState(
            statistics=rl.empty_statistics(2),
            log_weights=jnp.zeros((arms,), jnp.float32),
            probabilities=jnp.full((arms,), 1 / arms, jnp.float32),
            arm=jnp.zeros((), jnp.int32),
        )

    def act(state, features, key, exploration):
        del features
        probabilities = rl.exp3s_probabilities(state.log_weights, exploration)
        belief = rl.posterior(
            state.statistics, jnp.asarray(_PRIOR_MEAN), jnp.asarray(_PRIOR_PRECISION)
        )
        x = jnp.asarray(_FEATURES)
        if algorithm == "thompson":
            scores = rl.thompson_scores(key, belief, x, 1.0)
        elif algorithm == "ucb":
            scores = rl.ucb_scores(belief, x, 1.0)
        else:
            noise = jax.random.gumbel(key, probabilities.shape, jnp.float32)
            scores = jnp.log(probabilities) + noise
        arm = jnp.argmax(scores).astype(jnp.int32)
        state = state._replace(probabilities=probabilities, arm=arm)
        return jnp.array(ACTIONS, jnp.float32)[arm], state

    def learn(state, transition):
        action = transition.a_tm1
        return state._replace(
            statistics=rl.update_statistics(
                state.statistics,
                jnp.stack([action, jnp.square(action)]),
                transition.r_t,
                _DISCOUNT,
            ),
            log_weights=rl.exp3s_update(
                state.log_weights,
                state.probabilities,
                state.arm,
                transition.r_t,
                _STEP_SIZE,
                _SHARING,
            ),
        )

    return residual(Learner(init_fn, act, learn), alpha, repeat, seed)
