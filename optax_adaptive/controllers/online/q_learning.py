"""q_learning: a table of what each action is worth in each state of the training."""

from typing import NamedTuple

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

_STEP_SIZE = 0.1
_DISCOUNT = 0.8
_LAMBDA = 0.9
_REWARD = 0.02  # regret that a reward of 1 is worth, the unit of the prior
_EPSILON = 0.1  # probability of a random action, times the exploration
_TEMPERATURE = 0.03  # regret at which that is 1 / e as likely


class QLearningState(NamedTuple):
    """What :func:`q_learning` learns."""

    q_values: Array  # shape=(13, 13), dtype=float32
    trace: Array  # shape=(13, 13), dtype=float32: eligibility, in [0, 1]


def q_learning(
    alpha: float | Array = 2.3,
    repeat: int | Array = 4,
    seed: int | Array = 0,
    prior: offline_prior.Prior | None = None,
) -> Controller:
    """Goes on learning the value of each factor in each of 13 states of the training.

    The state is the action nearest to what :func:`actor_critic` would begin with; the
    actions, their reward and what becomes of them are those of :func:`bandit`; use it
    within :func:`optax_adaptive.with_averaging`, like that. The table was fitted
    offline, to what each action would have ended with in thousands of states of small
    trainings. From there, Watkins's Q(λ) with replacing traces and small steps; random
    actions, drawn by a softmax of their values, with a probability that falls as one
    over the root of the number of actions.

    Args:
      alpha: Log of the largest factor, above 0: the factor stays within
        ``exp(-alpha)`` and ``exp(alpha)``. The prior was fitted for log 10.
      repeat: Windows that an action is held, at least 2. A run should have 20 actions
        or more: ``steps / (repeat * accumulation_size)``.
      seed: Of the exploration, an integer of at least 0.
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
      >>> rule = controllers.anchored(controllers.plateau(), controllers.q_learning())
      >>> rule = scale_by_controller(rule, accumulation_size=10)
      >>> tx = with_averaging(optax.chain(optax.adam(1e-3), rule))

    Reference:
      Watkins, *Learning from Delayed Rewards*, PhD thesis, Cambridge, 1989. Singh and
      Sutton, `Reinforcement learning with replacing eligibility traces
      <https://doi.org/10.1007/BF00114726>`_, 1996
    """
    first = offline_prior.checked(prior)
    actor = PolicyWeights(*map(jnp.asarray, first.actor))

    def index(features):
        return nearest_arm(action_of(actor, features))

    def init_fn():
        return QLearningState(
            q_values=jnp.array(first.q_values),
            trace=jnp.zeros(first.q_values.shape, jnp.float32),
        )

    def act(state, features, key, exploration):
        uniform_key, arm_key = jax.random.split(key)
        uniform = jax.random.uniform(uniform_key, dtype=jnp.float32)
        values = state.q_values[index(features)]
        # Not of all arms alike: what is known to be far worse does its harm at once.
        drawn = jax.random.categorical(arm_key, values / _TEMPERATURE)
        is_drawn = uniform < _EPSILON * exploration
        arm = jnp.where(is_drawn, drawn, jnp.argmax(values))
        return jnp.array(ACTIONS, jnp.float32)[arm], state

    def learn(state, transition):
        arm = nearest_arm(transition.a_tm1)
        before = index(transition.features_tm1)
        after = index(transition.features_t)
        error = rl.q_learning_error(
            state.q_values[before],
            arm,
            _REWARD * transition.r_t,
            jnp.array(_DISCOUNT, jnp.float32),
            state.q_values[after],
        )
        rows, columns = (
            jnp.arange(size, dtype=jnp.int32) for size in state.trace.shape
        )
        visited = (rows == before)[:, None] & (columns == arm)[None, :]
        # Watkins: credit ends where the action taken is not the best one.
        is_greedy = arm == jnp.argmax(state.q_values[before]).astype(jnp.int32)
        trace = jnp.where(is_greedy, state.trace, 0.0)
        trace = rl.replacing_trace(trace, visited, _DISCOUNT * _LAMBDA)
        q_values = state.q_values + _STEP_SIZE * error * trace
        return state._replace(q_values=q_values, trace=trace)

    return residual("q_learning", Learner(init_fn, act, learn), alpha, repeat, seed)
