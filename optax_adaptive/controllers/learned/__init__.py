"""A tiny policy, trained offline and frozen: its features, its network, its weights."""

from optax_adaptive.controllers.learned.policy_network import load_weights
from optax_adaptive.controllers.learned.rule import learned

__all__ = ["learned", "load_weights"]
