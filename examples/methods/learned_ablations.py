"""What the learned policy must beat: itself untrained, blind, at random, at rest."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from methods.hand_set_policy import first_policy
from optax_adaptive import Controller, controllers
from optax_adaptive.controllers.learned.policy_network import shipped_weights
from optax_adaptive.controllers.learned.rule import LARGEST_STEP, policy_rule, searched
from optax_adaptive.controllers.learned.state_features import NAMES

TIME = ("age", "elapsed", "remaining", "has_total_steps", "previous_action")


def untrained(total_steps: int) -> Controller:
    """The policy that training began with, set by hand."""
    with jax.ensure_compile_time_eval():  # in a trained function too
        weights = first_policy(jax.random.key(0))
    return controllers.learned(total_steps, weights)


def blind(total_steps: int) -> Controller:
    """The policy, seeing the time alone: all that the loss says is replaced by 0."""
    is_seen = jnp.array([name in TIME for name in NAMES], jnp.float32)
    weights = shipped_weights()
    weights = weights._replace(
        linear=weights.linear * is_seen, hidden=weights.hidden * is_seen[:, None]
    )
    return controllers.learned(total_steps, weights)


def random_walk(total_steps: int, seed: Any) -> Controller:
    """The same search, and then a random factor of up to 2 at each decision."""
    still = jax.tree.map(jnp.zeros_like, shipped_weights())
    rule = policy_rule(total_steps, still)

    def update_fn(observation, state):
        before, key = state
        log_scale, after = rule.update(observation, before)
        key, action_key = jax.random.split(key)
        action = jax.random.uniform(action_key, (), jnp.float32, -1.0, 1.0)
        noise = jnp.where(jnp.isfinite(observation.value), LARGEST_STEP * action, 0.0)
        return log_scale + noise, (after, key)

    walks = rule._replace(
        init=lambda: (rule.init(), jax.random.PRNGKey(seed)),
        update=update_fn,
        request=lambda state: rule.request(state[0]),
        begin=lambda state, found: (rule.begin(state[0], found), state[1]),
    )
    return searched(total_steps, walks)


def replay(total_steps: int) -> Controller:
    """A search of its own, then the base rate: the mean one of a run of the policy."""
    rule = controllers.learned(total_steps)

    def update_fn(observation, state):
        log_scale, state = rule.update(observation, state)
        return jnp.where(state.first_state.is_done, 0.0, log_scale), state

    return rule._replace(update=update_fn)


# From total_steps and seed.
LEARNED_ABLATIONS: dict[str, Callable[[int, Any], Controller]] = {
    "learned_untrained": lambda steps, seed: untrained(steps),
    "learned_blind": lambda steps, seed: blind(steps),
    "learned_random": random_walk,
    "learned_replay": lambda steps, seed: replay(steps),
}
