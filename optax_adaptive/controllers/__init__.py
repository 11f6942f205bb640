"""The learning-rate rules, each in a file of its own, and the ways to combine them."""

from collections.abc import Callable

from optax_adaptive._controller import Controller
from optax_adaptive.controllers.anchored import anchored
from optax_adaptive.controllers.bold_driver import bold_driver
from optax_adaptive.controllers.clip import clip
from optax_adaptive.controllers.constant import constant
from optax_adaptive.controllers.greedy import greedy
from optax_adaptive.controllers.learned import learned, load_weights
from optax_adaptive.controllers.maintain import MaintainSettings, maintain
from optax_adaptive.controllers.maintain.rate_correction import CorrectionSettings
from optax_adaptive.controllers.online import (
    OnlineSettings,
    actor_critic,
    bandit,
    load_prior,
    q_learning,
)
from optax_adaptive.controllers.plateau import plateau
from optax_adaptive.controllers.range_test import range_test
from optax_adaptive.controllers.search import SearchSettings, search
from optax_adaptive.controllers.then import then
from optax_adaptive.controllers.trend import trend
from optax_adaptive.controllers.tuned import tuned
from optax_adaptive.controllers.warmup import warmup

hold = constant  # an alias

# Every rule by name, to be called with its defaults: the common tests and the
# benchmarks run over these.
REGISTRY: dict[str, Callable[[], Controller]] = {
    "constant": constant,
    "plateau": plateau,
    "greedy": greedy,
    "bold_driver": bold_driver,
    "trend": trend,
    "range_test": range_test,
    "bandit": bandit,
    "q_learning": q_learning,
    "actor_critic": actor_critic,
    "search": search,
    "maintain": maintain,
    "tuned": tuned,
    "learned": learned,
}

__all__ = [
    "CorrectionSettings",
    "MaintainSettings",
    "OnlineSettings",
    "REGISTRY",
    "SearchSettings",
    "actor_critic",
    "anchored",
    "bandit",
    "bold_driver",
    "clip",
    "constant",
    "greedy",
    "hold",
    "learned",
    "load_prior",
    "load_weights",
    "maintain",
    "plateau",
    "q_learning",
    "range_test",
    "search",
    "then",
    "trend",
    "tuned",
    "warmup",
]
