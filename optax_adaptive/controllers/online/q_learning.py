"""q_learning: a table of the value of each action in each state of the training."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from optax_adaptive import rl
from optax_adaptive._controller import Array, Controller
from optax_adaptive.controllers.learned.policy_network import PolicyWeights
from optax_adaptive.controllers.learned.policy_network import act as network_action
from optax_adaptive.controllers.online import offline_prior
from optax_adaptive.controllers.online._learner import (
    ACTIONS,
    Learner,
    nearest_action,
)
from optax_adaptive.controllers.online._residual import residual
from optax_adaptive.controllers.online.settings import OnlineSettings, or_defaults


class QLearningState(NamedTuple):
    """What :func:`q_learning` learns."""

    q_values: Array  # shape=(13, 13), dtype=float32
    trace: Array  # shape=(13, 13), dtype=float32: eligibility, in [0, 1]


def q_learning(
    alpha: float | Array = 2.3,
    repeat: int | Array = 4,
    seed: int | Array = 0,
    prior: offline_prior.Prior | None = None,
    settings: OnlineSettings | None = None,
) -> Controller:
    """Keeps learning the value of each factor in each of 13 states of the training.

    The state is the action nearest to the one that the prior of :func:`actor_critic`
    proposes. The actions, their reward and how proposals become actions are as in
    :func:`bandit`; like it, use it within :func:`optax_adaptive.with_averaging`. The
    table was fitted offline, to the final losses that followed each action in thousands
    of states of small training runs. Watkins's Q(λ) continues from there, with
    replacing traces and small steps. It explores by random actions, sampled from a
    softmax of their values, with a probability that shrinks as one over the root of the
    number of actions.

    Args:
      alpha: Log of the largest factor, above 0: the factor stays within
        ``exp(-alpha)`` and ``exp(alpha)``. The prior was fitted for log 10.
      repeat: Windows that an action lasts, at least 2. A run should have 20 actions or
        more: ``steps / (repeat * accumulation_size)``.
      seed: Seed of the exploration, an integer of at least 0.
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
      >>> rule = controllers.anchored(controllers.plateau(), controllers.q_learning())
      >>> rule = scale_by_controller(rule, accumulation_size=10)
      >>> tx = with_averaging(optax.chain(optax.adam(1e-3), rule))

    Reference:
      Watkins, *Learning from Delayed Rewards*, PhD thesis, Cambridge, 1989. Singh and
      Sutton, `Reinforcement learning with replacing eligibility traces
      <https://doi.org/10.1007/BF00114726>`_, 1996
    """
    settings = or_defaults(settings)
    first = offline_prior.checked(prior)
    actor = PolicyWeights(*map(jnp.asarray, first.actor))

    def state_of(features):
        return nearest_action(network_action(actor, features))

    def init_fn():
        return QLearningState(
            q_values=jnp.array(first.q_values),
            trace=jnp.zeros(first.q_values.shape, jnp.float32),
        )

    def act(state, features, key, exploration):
        uniform_key, action_key = jax.random.split(key)
        uniform = jax.random.uniform(uniform_key, dtype=jnp.float32)
        values = state.q_values[state_of(features)]
        # Not uniform: an action that is far worse would do its harm at once.
        sampled = jax.random.categorical(action_key, values / settings.q_temperature)
        is_random = uniform < settings.q_epsilon * exploration
        chosen = jnp.where(is_random, sampled, jnp.argmax(values))
        return jnp.array(ACTIONS, jnp.float32)[chosen], state

    def learn(state, transition):
        taken = nearest_action(transition.a_tm1)
        s_tm1 = state_of(transition.features_tm1)
        s_t = state_of(transition.features_t)
        error = rl.q_learning_error(
            state.q_values[s_tm1],
            taken,
            settings.q_reward * transition.r_t,
            jnp.array(settings.q_discount, jnp.float32),
            state.q_values[s_t],
        )
        rows, columns = (
            jnp.arange(size, dtype=jnp.int32) for size in state.trace.shape
        )
        visited = (rows == s_tm1)[:, None] & (columns == taken)[None, :]
        # Watkins: credit ends where the action that the best leads to was not taken.
        best = transition.choices_tm1[jnp.argmax(state.q_values[s_tm1])]
        is_greedy = taken == nearest_action(best)
        trace = jnp.where(is_greedy, state.trace, 0.0)
        decay = settings.q_discount * settings.q_lambda
        trace = rl.replacing_trace(trace, visited, decay)
        q_values = state.q_values + settings.q_step_size * error * trace
        return state._replace(q_values=q_values, trace=trace)

    learner = Learner(init_fn, act, learn)
    return residual("q_learning", learner, alpha, repeat, seed, settings)
