"""Bandits whose rewards change: discounted Thompson sampling and UCB, and Exp3.S."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

Array = jax.Array


class BanditStatistics(NamedTuple):
    """Discounted sums over steps, of a reward linear in the features of an action.

    Independent actions are the special case in which the features of all actions
    together are the identity: then the precision is diagonal and counts the choices.
    """

    precision: Array  # shape=(d, d), dtype=float32: sum of outer products of features
    response: Array  # shape=(d,), dtype=float32: sum of features times reward


class Posterior(NamedTuple):
    """A normal distribution over the weights of the features."""

    mean: Array  # shape=(d,), dtype=float32
    covariance: Array  # shape=(d, d), dtype=float32, for rewards of variance 1


def empty_statistics(size: int) -> BanditStatistics:
    """Statistics before the first step.

    Args:
      size: Number of features d, at least 1.

    Returns:
      The :class:`BanditStatistics`, all 0.

    Example:
      >>> empty_statistics(2).precision.shape
      (2, 2)
    """
    return BanditStatistics(
        jnp.zeros((size, size), jnp.float32), jnp.zeros((size,), jnp.float32)
    )


def update_statistics(
    statistics: BanditStatistics, x_tm1: Array, r_t: Array, discount: float | Array
) -> BanditStatistics:
    """Discounts the sums, and adds the reward of an action.

    Args:
      statistics: The statistics so far.
      x_tm1: Features of the action taken, float32 of shape ``(d,)``.
      r_t: Its reward, shape ``()``.
      discount: What a step is worth a step later, in (0, 1].

    Returns:
      The new statistics.

    Example:
      >>> import jax.numpy as jnp
      >>> taken = jnp.array([0.0, 1.0])  # the second of two independent actions
      >>> statistics = update_statistics(empty_statistics(2), taken, 3.0, 0.5)
      >>> statistics = update_statistics(statistics, taken, 4.0, 0.5)
      >>> print(statistics.precision[1, 1], statistics.response)
      1.5 [0.  5.5]

    Reference:
      Russac, Vernade and Cappé, `Weighted linear bandits for non-stationary
      environments <https://arxiv.org/abs/1909.09146>`_, 2019; independent actions:
      Garivier and Moulines, `On upper-confidence bound policies for switching bandit
      problems <https://arxiv.org/abs/0805.3415>`_, 2011
    """
    return BanditStatistics(
        precision=discount * statistics.precision + x_tm1[:, None] * x_tm1[None, :],
        response=discount * statistics.response + x_tm1 * r_t,
    )


def posterior(
    statistics: BanditStatistics, prior_mean: Array, prior_precision: Array
) -> Posterior:
    """The posterior of the weights, from the statistics and a prior.

    Args:
      statistics: The statistics.
      prior_mean: Weights expected beforehand, float32 of shape ``(d,)``.
      prior_precision: Steps that the prior is worth, above 0, shape ``(d,)``.

    Returns:
      The :class:`Posterior`.

    Example:
      >>> import jax.numpy as jnp
      >>> counts = jnp.array([3.0, 0.0])  # of two independent actions
      >>> statistics = BanditStatistics(jnp.diag(counts), jnp.array([6.0, 0.0]))
      >>> print(posterior(statistics, jnp.zeros(2), jnp.ones(2)).mean)
      [1.5 0. ]
    """
    covariance = jnp.linalg.inv(statistics.precision + jnp.diag(prior_precision))
    response = statistics.response + prior_precision * prior_mean
    return Posterior(jnp.sum(covariance * response[None, :], axis=1), covariance)


def thompson_scores(
    key: Array, belief: Posterior, x: Array, std: float | Array
) -> Array:
    """Scores of all actions under one sample of the weights; take the highest.

    Args:
      key: Random key.
      belief: The posterior of the weights.
      x: Features of the actions, float32 of shape ``(actions, d)``.
      std: Standard deviation of a reward, at least 0; 0 is greedy.

    Returns:
      Scores, float32 of shape ``(actions,)``.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> belief = Posterior(jnp.array([1.0, 2.0]), jnp.eye(2))
      >>> print(thompson_scores(jax.random.key(0), belief, jnp.eye(2), 0.0))
      [1. 2.]

    Reference:
      Thompson, *On the likelihood that one unknown probability exceeds another in view
      of the evidence of two samples*, Biometrika 25, 1933. Agrawal and Goyal,
      `Thompson sampling for contextual bandits with linear payoffs
      <https://arxiv.org/abs/1209.3352>`_, 2013
    """
    root = jnp.linalg.cholesky(belief.covariance)
    noise = jax.random.normal(key, belief.mean.shape, jnp.float32)
    return x @ (belief.mean + std * (root @ noise))


def ucb_scores(belief: Posterior, x: Array, width: float | Array) -> Array:
    """Upper confidence bounds of all actions; take the highest.

    Args:
      belief: The posterior of the weights.
      x: Features of the actions, float32 of shape ``(actions, d)``.
      width: Standard deviations above the mean, times that of a reward, at least 0.

    Returns:
      Scores, float32 of shape ``(actions,)``.

    Example:
      >>> import jax.numpy as jnp
      >>> belief = Posterior(jnp.array([1.0, 2.0]), jnp.diag(jnp.array([4.0, 0.0])))
      >>> print(ucb_scores(belief, jnp.eye(2), 1.0))
      [3. 2.]

    Reference:
      Li et al., `A contextual-bandit approach to personalized news article
      recommendation <https://arxiv.org/abs/1003.0146>`_, 2010
    """
    variance = jnp.sum((x @ belief.covariance) * x, axis=1)
    return x @ belief.mean + width * jnp.sqrt(jnp.maximum(variance, 0.0))


def exp3s_probabilities(log_weights: Array, exploration: float | Array) -> Array:
    """The softmax of the weights, mixed with the uniform distribution.

    Args:
      log_weights: float32 of shape ``(actions,)``.
      exploration: Share of the uniform distribution, in [0, 1].

    Returns:
      Probabilities of shape ``(actions,)``.

    Example:
      >>> import jax.numpy as jnp
      >>> print(exp3s_probabilities(jnp.log(jnp.array([3.0, 1.0])), 0.5))
      [0.625 0.375]

    Reference:
      Auer, Cesa-Bianchi, Freund and Schapire, `The nonstochastic multiarmed bandit
      problem <https://doi.org/10.1137/S0097539701398375>`_, 2002
    """
    uniform = 1.0 / log_weights.shape[0]
    return (1 - exploration) * jax.nn.softmax(log_weights) + exploration * uniform


def exp3s_update(
    log_weights: Array,
    probabilities: Array,
    a_tm1: Array,
    r_t: Array,
    step_size: float | Array,
    sharing: float | Array,
) -> Array:
    """Exp3.S: an importance-weighted step, and a little weight for every action.

    The reward is divided by the probability of its action; otherwise an action would
    gain by being taken often. The shared weight lets an action that was bad for long
    become likely again.

    Args:
      log_weights: float32 of shape ``(actions,)``.
      probabilities: Those of the actions when one was sampled, above 0, ``(actions,)``.
      a_tm1: The action taken, int32 of shape ``()``.
      r_t: Its reward, shape ``()``.
      step_size: Factor on the importance-weighted reward, above 0.
      sharing: Part of the mean weight that each action gets, at least 0.

    Returns:
      New log weights, whose largest is 0: only their differences count.

    Example:
      >>> import jax.numpy as jnp
      >>> p = jnp.array([0.5, 0.5])
      >>> print(exp3s_update(jnp.zeros(2), p, jnp.array(0), -1.0, 0.5, 0.0))
      [-1.  0.]

    Reference:
      Auer, Cesa-Bianchi, Freund and Schapire, `The nonstochastic multiarmed bandit
      problem <https://doi.org/10.1137/S0097539701398375>`_, 2002
    """
    actions = jnp.arange(log_weights.shape[0], dtype=jnp.result_type(a_tm1))
    is_taken = actions == a_tm1
    estimate = jnp.where(is_taken, r_t / probabilities, 0.0)
    log_weights = log_weights - jnp.max(log_weights)
    shared = sharing * jnp.mean(jnp.exp(log_weights))  # of the weights before
    log_weights = log_weights + step_size * estimate
    # In logs, exp(w) + shared; an action without any weight stays finite.
    log_weights = jnp.logaddexp(log_weights, jnp.log(jnp.maximum(shared, 1e-30)))
    return log_weights - jnp.max(log_weights)
