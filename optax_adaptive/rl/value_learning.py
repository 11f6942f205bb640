"""Errors of value estimates: TD(λ), Q-learning and Q(λ), with eligibility traces."""

import jax
import jax.numpy as jnp

Array = jax.Array


def lambda_returns(
    r_t: Array, discount_t: Array, v_t: Array, lambda_: float | Array
) -> Array:
    """Returns that mix all horizons, ``r + discount * ((1 - λ) v + λ return)``.

    Args:
      r_t: Rewards at times 1 to n, float32 of shape ``(n,)``.
      discount_t: Discounts at times 1 to n, in [0, 1], shape ``(n,)``; 0 ends an
        episode.
      v_t: Values of the states at times 1 to n, shape ``(n,)``; the last one stands for
        all that follows.
      lambda_: Weight of the longer horizons, in [0, 1], a scalar or of shape ``(n,)``.

    Returns:
      The returns from times 0 to n - 1, shape ``(n,)``.

    Example:
      >>> import jax.numpy as jnp
      >>> ones = jnp.ones(3)
      >>> print(lambda_returns(ones, ones, 0 * ones, 1.0))
      [3. 2. 1.]

    Reference:
      Sutton and Barto, `Reinforcement Learning: An Introduction
      <http://incompleteideas.net/book/the-book-2nd.html>`_, 2018, chapter 12
    """
    lambda_ = jnp.broadcast_to(jnp.asarray(lambda_, r_t.dtype), r_t.shape)

    def step(return_t, x):
        reward, discount, value, weight = x
        return_tm1 = reward + discount * ((1 - weight) * value + weight * return_t)
        return return_tm1, return_tm1

    xs = (r_t, discount_t, v_t, lambda_)
    return jax.lax.scan(step, v_t[-1], xs, reverse=True)[1]


def td_lambda_error(
    v_tm1: Array, r_t: Array, discount_t: Array, v_t: Array, lambda_: float | Array
) -> Array:
    """TD(λ): how far the returns lie above the values of the states they began in.

    Args:
      v_tm1: Values of the states at times 0 to n - 1, shape ``(n,)``.
      r_t: Rewards at times 1 to n, shape ``(n,)``.
      discount_t: Discounts at times 1 to n, shape ``(n,)``.
      v_t: Values of the states at times 1 to n, shape ``(n,)``.
      lambda_: Weight of the longer horizons, a scalar or of shape ``(n,)``.

    Returns:
      Errors of shape ``(n,)``, whose gradient with respect to the returns is stopped.

    Reference:
      Sutton, `Learning to predict by the methods of temporal differences
      <https://doi.org/10.1007/BF00115009>`_, 1988
    """
    return jax.lax.stop_gradient(lambda_returns(r_t, discount_t, v_t, lambda_)) - v_tm1


def q_learning_error(
    q_tm1: Array, a_tm1: Array, r_t: Array, discount_t: Array, q_t: Array
) -> Array:
    """Q-learning: the reward and the best that follows, less what was expected.

    Args:
      q_tm1: Values of all actions at time t - 1, shape ``(actions,)``.
      a_tm1: The action taken, int32 of shape ``()``.
      r_t: The reward, shape ``()``.
      discount_t: The discount, shape ``()``.
      q_t: Values of all actions at time t, shape ``(actions,)``.

    Returns:
      The error, shape ``()``.

    Example:
      >>> import jax.numpy as jnp
      >>> q = jnp.array([1.0, 2.0])
      >>> float(q_learning_error(q, jnp.array(0), 3.0, 0.5, q))
      3.0

    Reference:
      Watkins, *Learning from Delayed Rewards*, PhD thesis, Cambridge, 1989
    """
    target = r_t + discount_t * jnp.max(q_t)
    return jax.lax.stop_gradient(target) - q_tm1[a_tm1]


def q_lambda_error(
    q_tm1: Array,
    a_tm1: Array,
    r_t: Array,
    discount_t: Array,
    q_t: Array,
    lambda_: float | Array,
) -> Array:
    """Q(λ) along a sequence: Peng's with a scalar λ, Watkins's with λ cut to 0.

    Args:
      q_tm1: Values of all actions at times 0 to n - 1, shape ``(n, actions)``.
      a_tm1: Actions taken, int32 of shape ``(n,)``.
      r_t: Rewards at times 1 to n, shape ``(n,)``.
      discount_t: Discounts at times 1 to n, shape ``(n,)``.
      q_t: Values of all actions at times 1 to n, shape ``(n, actions)``.
      lambda_: Weight of the longer horizons; Watkins sets it to 0 where the next action
        is not the best one.

    Returns:
      Errors of shape ``(n,)``.

    Reference:
      Peng and Williams, `Incremental multi-step Q-learning
      <https://doi.org/10.1023/A:1018076709321>`_, 1996
    """
    taken = jnp.take_along_axis(q_tm1, a_tm1[:, None], axis=-1)[:, 0]
    return td_lambda_error(taken, r_t, discount_t, jnp.max(q_t, axis=-1), lambda_)


def replacing_trace(trace: Array, visited: Array, decay: float | Array) -> Array:
    """Fades the credit of what was visited before, and gives the newest visit all.

    The backward view of λ: adding ``error * trace`` to the values at each step sums to
    the λ-return. *Replacing* and not accumulating: visits in a row do not add up.

    Args:
      trace: Credit of every entry of a table, in [0, 1], of any shape.
      visited: Which entry is visited now, bool of the same shape.
      decay: Discount times λ, in [0, 1].

    Returns:
      The new trace.

    Example:
      >>> import jax.numpy as jnp
      >>> trace = replacing_trace(jnp.array([1.0, 0.5]), jnp.array([False, True]), 0.5)
      >>> print(trace)
      [0.5 1. ]

    Reference:
      Singh and Sutton, `Reinforcement learning with replacing eligibility traces
      <https://doi.org/10.1007/BF00114726>`_, 1996
    """
    return jnp.where(visited, 1.0, decay * trace)
