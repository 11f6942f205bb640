"""Learners that explore around a rate within one run, each on the same block reward."""

from optax_adaptive.controllers.online.actor_critic import actor_critic
from optax_adaptive.controllers.online.bandit import bandit
from optax_adaptive.controllers.online.offline_prior import load_prior
from optax_adaptive.controllers.online.q_learning import q_learning

__all__ = ["actor_critic", "bandit", "load_prior", "q_learning"]
