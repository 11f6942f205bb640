"""Reinforcement learning as pure functions of arrays.

What the learners are made of, and the rest of each family, to make others of.

``_tm1`` and ``_t`` in a name are the time of an array: action ``a_tm1`` in state
``s_tm1`` earns reward ``r_t`` and leads to state ``s_t``.
"""

from optax_adaptive.rl.bandits import (
    BanditStatistics,
    Posterior,
    empty_statistics,
    exp3s_probabilities,
    exp3s_update,
    posterior,
    thompson_scores,
    ucb_scores,
    update_statistics,
)
from optax_adaptive.rl.policy_gradients import (
    clipped_surrogate,
    gaussian_entropy,
    gaussian_log_prob,
    generalized_advantages,
)
from optax_adaptive.rl.value_learning import (
    lambda_returns,
    q_lambda_error,
    q_learning_error,
    replacing_trace,
    td_lambda_error,
)

__all__ = [
    "BanditStatistics",
    "Posterior",
    "clipped_surrogate",
    "empty_statistics",
    "exp3s_probabilities",
    "exp3s_update",
    "gaussian_entropy",
    "gaussian_log_prob",
    "generalized_advantages",
    "lambda_returns",
    "posterior",
    "q_lambda_error",
    "q_learning_error",
    "replacing_trace",
    "td_lambda_error",
    "thompson_scores",
    "ucb_scores",
    "update_statistics",
]
