"""Q-learning: the error of a value, and eligibility traces."""

import jax
import jax.numpy as jnp

Array = jax.Array


def q_learning_error(
    q_tm1: Array, a_tm1: Array, r_t: Array, discount_t: Array, q_t: Array
) -> Array:
    """Q-learning: the reward plus the best value that follows, less the value expected.

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


def replacing_trace(trace: Array, visited: Array, decay: float | Array) -> Array:
    """Fades the credit of earlier visits, and gives the newest one full credit.

    The backward view of λ: adding ``error * trace`` to the values at each step sums to
    the λ-return. *Replacing* and not accumulating: repeated visits do not add up.

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
