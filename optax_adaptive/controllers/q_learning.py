"""q_learning: a table of what each action is worth in each state of the training."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from optax_adaptive import rl
from optax_adaptive._controller import Array, Controller
from optax_adaptive.controllers import _features
from optax_adaptive.controllers._residual import ACTIONS, Learner, residual

_BINS = (  # feature and the two bounds between its three bins
    ("slope_8", -0.45, 0.0),  # the loss falls beyond doubt; somewhat; not at all
    ("trend", -0.2, 0.0),  # it has fallen of late; a little; not at all
    ("previous_action", -0.25, 0.25),  # below the anchor; at it; above it
)
_PLACES = np.array([_features.NAMES.index(name) for name, *_ in _BINS], np.int32)
_BOUNDS = np.array([bounds for _, *bounds in _BINS], np.float32)
_STEP_SIZE = 0.3
_DISCOUNT = 0.8
_LAMBDA = 0.9
_OPTIMISM = 0.2  # the value of the no-op, before anything is known


class QLearningState(NamedTuple):
    """What :func:`q_learning` learns."""

    q_values: Array  # shape=(27, 5), dtype=float32
    trace: Array  # shape=(27, 5), dtype=float32: eligibility, in [0, 1]


def q_learning(
    alpha: float | Array = 1.3, repeat: int | Array = 4, seed: int | Array = 0
) -> Controller:
    """Learns the value of each factor in each of 27 states of the training.

    The states are three bins each of the slope of the loss over eight windows, of its
    fast average over the slow one, and of the previous action; the actions, their
    reward and the limits on them are those of :func:`bandit`. Watkins's Q(λ) with
    replacing traces; random actions with a probability that falls as one over the root
    of the number of actions. The no-op begins with a small advantage.

    Args:
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
      >>> from optax_adaptive import controllers, scale_by_controller
      >>> rule = controllers.anchored(controllers.plateau(), controllers.q_learning())
      >>> tx = scale_by_controller(rule, accumulation_size=10)

    Reference:
      Watkins, *Learning from Delayed Rewards*, PhD thesis, Cambridge, 1989. Singh and
      Sutton, `Reinforcement learning with replacing eligibility traces
      <https://doi.org/10.1007/BF00114726>`_, 1996
    """

    def init_fn():
        size = (3 ** len(_BINS), len(ACTIONS))
        optimism = np.float32(_OPTIMISM) * (np.array(ACTIONS) == 0)
        return QLearningState(
            q_values=jnp.tile(optimism, (size[0], 1)),
            trace=jnp.zeros(size, jnp.float32),
        )

    def act(state, features, key, exploration):
        uniform_key, arm_key = jax.random.split(key)
        is_random = jax.random.uniform(uniform_key, dtype=jnp.float32) < exploration
        drawn = jax.random.randint(arm_key, (), 0, len(ACTIONS), jnp.int32)
        greedy = jnp.argmax(state.q_values[_state_index(features)]).astype(jnp.int32)
        arm = jnp.where(is_random, drawn, greedy)
        # Watkins: credit ends where an action is not the best one.
        trace = jnp.where(is_random & (drawn != greedy), 0.0, state.trace)
        state = state._replace(trace=trace)
        return jnp.array(ACTIONS, jnp.float32)[arm], state

    def learn(state, transition):
        # The action that was taken, which the guard may have made another.
        distances = jnp.abs(jnp.array(ACTIONS, jnp.float32) - transition.a_tm1)
        arm = jnp.argmin(distances).astype(jnp.int32)
        before = _state_index(transition.features_tm1)
        after = _state_index(transition.features_t)
        error = rl.q_learning_error(
            state.q_values[before],
            arm,
            transition.r_t,
            jnp.array(_DISCOUNT, jnp.float32),
            state.q_values[after],
        )
        rows, columns = (
            jnp.arange(size, dtype=jnp.int32) for size in state.trace.shape
        )
        visited = (rows == before)[:, None] & (columns == arm)[None, :]
        trace = rl.replacing_trace(state.trace, visited, _DISCOUNT * _LAMBDA)
        q_values = state.q_values + _STEP_SIZE * error * trace
        return state._replace(q_values=q_values, trace=trace)

    return residual(Learner(init_fn, act, learn), alpha, repeat, seed)


def _state_index(features: Array) -> Array:
    """The bin of a state, int32 in [0, 27)."""
    digits = jnp.sum(features[_PLACES][:, None] > _BOUNDS, axis=1, dtype=jnp.int32)
    return jnp.sum(digits * np.array([9, 3, 1], np.int32), dtype=jnp.int32)
