"""Learners that explore around a learning rate, each on the same block reward."""

from optax_adaptive.controllers.online.actor_critic import actor_critic
from optax_adaptive.controllers.online.bandit import bandit
from optax_adaptive.controllers.online.offline_prior import load_prior
from optax_adaptive.controllers.online.q_learning import q_learning
from optax_adaptive.controllers.online.settings import OnlineSettings

__all__ = ["OnlineSettings", "actor_critic", "bandit", "load_prior", "q_learning"]
