"""Bandits whose arms change: discounted statistics, Thompson, UCB and Exp3.S."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

Array = jax.Array


class ArmStatistics(NamedTuple):
    """What a bandit remembers of its arms, each of shape ``(arms,)``, float32."""

    counts: Array  # pulls, each worth less by the discount with every later pull
    means: Array  # mean reward of these pulls; 0 before the first


def update_arms(
    arms: ArmStatistics, a_tm1: Array, r_t: Array, discount: float | Array
) -> ArmStatistics:
    """Forgets a little of every arm, and adds a reward to one.

    Args:
      arms: The statistics so far.
      a_tm1: The arm that was pulled, int32 of shape ``()``.
      r_t: Its reward, shape ``()``.
      discount: What an old pull is worth a pull later, in (0, 1].

    Returns:
      The new statistics.

    Example:
      >>> import jax.numpy as jnp
      >>> arms = ArmStatistics(jnp.array([2.0, 2.0]), jnp.array([1.0, 5.0]))
      >>> arms = update_arms(arms, jnp.array(0), 4.0, 0.5)
      >>> print(arms.counts, arms.means)
      [2. 1.] [2.5 5. ]

    Reference:
      Garivier and Moulines, `On upper-confidence bound policies for switching bandit
      problems <https://arxiv.org/abs/0805.3415>`_, 2011
    """
    pulled = (jnp.arange(arms.counts.shape[0]) == a_tm1).astype(jnp.float32)
    counts = discount * arms.counts + pulled
    step = pulled / jnp.maximum(counts, 1.0)
    return ArmStatistics(counts, arms.means + step * (r_t - arms.means))


def thompson_scores(
    key: Array, arms: ArmStatistics, deviation: Array, prior_counts: Array
) -> Array:
    """One draw from each arm's posterior; pull the arm with the highest.

    Normal rewards of known deviation, and a normal prior around 0 that is worth
    ``prior_counts`` pulls.

    Args:
      key: Random key.
      arms: The statistics, ``(arms,)``.
      deviation: Standard deviation of a reward, shape ``()``; 0 is greedy.
      prior_counts: Pulls that the prior is worth, above 0, ``(arms,)``.

    Returns:
      Scores, float32 of shape ``(arms,)``.

    Reference:
      Thompson, *On the likelihood that one unknown probability exceeds another in view
      of the evidence of two samples*, Biometrika 25, 1933. Discounted: Raj and Kalyani,
      `Taming non-stationary bandits <https://arxiv.org/abs/1707.09727>`_, 2017
    """
    counts = arms.counts + prior_counts
    noise = jax.random.normal(key, counts.shape, jnp.float32)
    return arms.counts / counts * arms.means + noise * deviation / jnp.sqrt(counts)


def ucb_scores(arms: ArmStatistics, deviation: Array, prior_counts: Array) -> Array:
    """Upper confidence bounds; pull the arm with the highest.

    Args:
      arms: The statistics, ``(arms,)``.
      deviation: Standard deviation of a reward, shape ``()``; 0 is greedy.
      prior_counts: Pulls that a prior around 0 is worth, above 0, ``(arms,)``.

    Returns:
      Scores, float32 of shape ``(arms,)``:
      ``mean + deviation * sqrt(2 log(1 + all counts) / count)``.

    Reference:
      Garivier and Moulines, `On upper-confidence bound policies for switching bandit
      problems <https://arxiv.org/abs/0805.3415>`_, 2011
    """
    counts = arms.counts + prior_counts
    width = deviation * jnp.sqrt(2.0 * jnp.log1p(jnp.sum(arms.counts)) / counts)
    return arms.counts / counts * arms.means + width


def exp3s_probabilities(log_weights: Array, exploration: float | Array) -> Array:
    """The softmax of the weights, mixed with the uniform distribution.

    Args:
      log_weights: float32 of shape ``(arms,)``.
      exploration: Share of the uniform distribution, in [0, 1].

    Returns:
      Probabilities of shape ``(arms,)``.
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
    """Exp3.S: an importance-weighted step, and a little weight shared with all arms.

    The reward is divided by the probability of the arm that earned it, without which
    an arm would gain by being pulled often. The shared weight lets an arm that was bad
    for long come back.

    Args:
      log_weights: float32 of shape ``(arms,)``.
      probabilities: With which the arms were drawn, above 0, ``(arms,)``.
      a_tm1: The arm that was pulled, int32 of shape ``()``.
      r_t: Its reward, shape ``()``.
      step_size: On the importance-weighted reward, above 0.
      sharing: Part of the total weight that each arm is given, at least 0.

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
    pulled = jnp.arange(log_weights.shape[0]) == a_tm1
    estimate = jnp.where(pulled, r_t / probabilities, 0.0)
    log_weights = log_weights + step_size * estimate
    log_weights = log_weights - jnp.max(log_weights)
    shared = sharing * jnp.mean(jnp.exp(log_weights))
    # In logs, exp(w) + shared; an arm without any weight stays finite.
    log_weights = jnp.logaddexp(log_weights, jnp.log(jnp.maximum(shared, 1e-30)))
    return log_weights - jnp.max(log_weights)
