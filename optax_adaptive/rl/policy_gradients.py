"""Policy gradients: generalized advantages, PPO's surrogate, Gaussian policies."""

import math

import jax
import jax.numpy as jnp

Array = jax.Array


def generalized_advantages(
    v: Array, r_t: Array, discount_t: Array, lambda_: float | Array
) -> Array:
    """Generalized advantage estimates (GAE): TD errors, summed with decay γλ.

    Args:
      v: Values of the states at times 0 to n, float32 of shape ``(n + 1,)``.
      r_t: Rewards at times 1 to n, shape ``(n,)``.
      discount_t: Discounts γ at times 1 to n, in [0, 1], shape ``(n,)``.
      lambda_: Weight λ of the later errors, in [0, 1].

    Returns:
      Advantages of the actions at times 0 to n - 1, shape ``(n,)``.

    Example:
      >>> import jax.numpy as jnp
      >>> half = jnp.full(2, 0.5)
      >>> print(generalized_advantages(jnp.zeros(3), jnp.ones(2), half, 1.0))
      [1.5 1. ]

    Reference:
      Schulman et al., `High-dimensional continuous control using generalized advantage
      estimation <https://arxiv.org/abs/1506.02438>`_, 2015
    """
    errors = r_t + discount_t * v[1:] - v[:-1]

    def step(advantage, x):
        error, decay = x
        advantage = error + decay * advantage
        return advantage, advantage

    xs = (errors, discount_t * lambda_)
    return jax.lax.scan(step, jnp.zeros_like(errors[0]), xs, reverse=True)[1]


def clipped_surrogate(
    log_ratio_t: Array, advantage_t: Array, epsilon: float | Array
) -> Array:
    """PPO's objective of each action, to be maximised.

    Args:
      log_ratio_t: Log probability of the actions under the new policy less that under
        the policy which took them, shape ``(n,)``.
      advantage_t: Their advantages, taken as constants, shape ``(n,)``.
      epsilon: The ratio is not rewarded for leaving [1 - epsilon, 1 + epsilon].

    Returns:
      ``min(ratio * advantage, clip(ratio) * advantage)``, shape ``(n,)``.

    Example:
      >>> import jax.numpy as jnp
      >>> ratios = jnp.log(jnp.array([2.0, 2.0, 0.5]))
      >>> print(clipped_surrogate(ratios, jnp.array([1.0, -1.0, 1.0]), 0.2))
      [ 1.2 -2.   0.5]

    Reference:
      Schulman et al., `Proximal policy optimization algorithms
      <https://arxiv.org/abs/1707.06347>`_, 2017
    """
    advantage_t = jax.lax.stop_gradient(advantage_t)
    ratio = jnp.exp(log_ratio_t)
    clipped = jnp.clip(ratio, 1.0 - epsilon, 1.0 + epsilon)
    return jnp.minimum(ratio * advantage_t, clipped * advantage_t)


def gaussian_log_prob(x: Array, mean: Array, log_std: Array) -> Array:
    """Log density of a normal distribution.

    Args:
      x: Where to evaluate it.
      mean: Its mean, of the same shape.
      log_std: Log of its standard deviation, of the same shape.

    Returns:
      Log density, of the same shape.

    Example:
      >>> import jax.numpy as jnp
      >>> print(f"{gaussian_log_prob(jnp.zeros(()), 0.0, 0.0):.4f}")
      -0.9189
    """
    z = (x - mean) * jnp.exp(-log_std)
    return -0.5 * jnp.square(z) - log_std - 0.5 * math.log(2 * math.pi)


def gaussian_entropy(log_std: Array) -> Array:
    """Entropy of a normal distribution.

    Args:
      log_std: Log of its standard deviation.

    Returns:
      Entropy in nats, of the same shape.

    Example:
      >>> import jax.numpy as jnp
      >>> print(f"{gaussian_entropy(jnp.zeros(())):.4f}")
      1.4189
    """
    return log_std + 0.5 * math.log(2 * math.pi * math.e)
