"""The search for a learning rate."""

from optax_adaptive.controllers.search.rule import search
from optax_adaptive.controllers.search.settings import SearchSettings

__all__ = ["SearchSettings", "search"]
