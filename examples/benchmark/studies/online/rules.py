"""The online learners, and ablations that change one thing in them."""

from collections.abc import Callable, Container
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from optax_adaptive import Controller, controllers
from optax_adaptive.controllers.learned import gap_features, state_features
from optax_adaptive.controllers.online import OnlineSettings, _residual, offline_prior
from optax_adaptive.controllers.online._learner import ACTIONS, Learner

MakeRule = Callable[[Any], Controller]  # seed -> rule

RULES: dict[str, MakeRule] = {
    "constant": lambda seed: controllers.constant(),
    "bandit": lambda seed: controllers.bandit(seed=seed),
    "bandit ucb": lambda seed: controllers.bandit("ucb", seed=seed),
    "bandit exp3s": lambda seed: controllers.bandit("exp3s", seed=seed),
    "q_learning": lambda seed: controllers.q_learning(seed=seed),
    "actor_critic": lambda seed: controllers.actor_critic(seed=seed),
}

LEARNERS = ("bandit", "q_learning", "actor_critic")


def _random_actions(seed: Any) -> Controller:
    def act(state, features, key, exploration):
        del features, exploration
        chosen = jax.random.randint(key, (), 0, len(ACTIONS))
        return jnp.array(ACTIONS, jnp.float32)[chosen], state

    learner = Learner(lambda: (), act, lambda state, transition: state)
    return _residual.residual("random", learner, 2.3, 4, seed)


def _without_prior(name: str) -> MakeRule:
    """All weights and values 0, but for the hidden layer, which has to be something."""

    def make(seed):
        zeros = jax.tree.map(np.zeros_like, offline_prior.shipped())
        # Of NumPy, since this runs while the training is traced.
        hidden = np.random.default_rng(0).normal(0, 1 / 4, zeros.actor.hidden.shape)
        actor = zeros.actor._replace(hidden=np.float32(hidden))
        prior = zeros._replace(actor=actor)
        return getattr(controllers, name)(seed=seed, prior=prior)

    return make


def _with(name: str, **changes: Any) -> MakeRule:
    """A learner with other settings."""
    settings = OnlineSettings(**changes)
    return lambda seed: getattr(controllers, name)(seed=seed, settings=settings)


def _frozen(learner: Learner) -> Learner:
    """The learner, which never learns."""
    return learner._replace(learn=lambda state, transition: state)


def _seeing(names: Container[str]) -> Callable[[Learner], Learner]:
    """Gives a learner in which all other features are replaced by 0."""
    is_seen = np.array([name in names for name in state_features.NAMES], np.float32)

    def wrap(learner):
        def act(state, features, *rest):
            return learner.act(state, is_seen * features, *rest)

        def learn(state, transition):
            seen = transition._replace(
                features_tm1=is_seen * transition.features_tm1,
                features_t=is_seen * transition.features_t,
            )
            return learner.learn(state, seen)

        return learner._replace(act=act, learn=learn)

    return wrap


blind = _seeing(())

gap_unseen = _seeing(set(state_features.NAMES) - set(gap_features.NAMES))

NO_ANCHOR = ", no anchor"

ABLATIONS: dict[str, MakeRule] = {
    "random actions": _random_actions,
    **{
        f"{name}, {change}": _with(name, wrap_learner=wrap)
        for change, wrap in (
            ("blind", blind),
            ("cost unseen", gap_unseen),
            ("frozen", _frozen),
        )
        for name in LEARNERS
    },
    **{f"{name}, no prior": _without_prior(name) for name in LEARNERS},
    **{
        f"{name}, raw loss": _with(name, rewards_raw_decrease=True) for name in LEARNERS
    },
    **{name + NO_ANCHOR: RULES[name] for name in LEARNERS},
    "alpha 1.3": lambda seed: controllers.bandit(alpha=1.3, seed=seed),
    "as wanted": _with("bandit", smoothing_weight=1.0, dead_band=0.0, gain=1.0),
    "no reach": _with("bandit", has_ceiling=False),
}
