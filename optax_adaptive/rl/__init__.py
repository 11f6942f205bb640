"""Reinforcement learning as pure functions of arrays: the updates of the learners.

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
    q_learning_error,
    replacing_trace,
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
    "posterior",
    "q_learning_error",
    "replacing_trace",
    "thompson_scores",
    "ucb_scores",
    "update_statistics",
]
