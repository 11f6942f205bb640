"""What the learned policy must beat: itself untrained, blind, at random, at rest."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from optax_adaptive import Controller, controllers
from optax_adaptive._controller import keep_state
from optax_adaptive.controllers._features import NAMES
from optax_adaptive.controllers._policy import shipped_weights
from optax_adaptive.controllers.learned import LARGEST_STEP
from policy import evolution
from policy.ppo import decides

TIME = ("age", "elapsed", "remaining", "has_horizon", "previous_action")


def untrained(total_steps: int) -> Controller:
    """The policy that training began with, set by hand."""
    with jax.ensure_compile_time_eval():  # in a trained function too
        weights = evolution.first_policy(jax.random.key(0))
    return controllers.learned(total_steps, weights)


def blind(total_steps: int) -> Controller:
    """The policy, seeing the time alone: all that the loss says is replaced by 0."""
    is_seen = jnp.array([name in TIME for name in NAMES], jnp.float32)
    weights = shipped_weights()
    weights = weights._replace(
        linear=weights.linear * is_seen, hidden=weights.hidden * is_seen[:, None]
    )
    return controllers.learned(total_steps, weights)


def random_walk(total_steps: int, seed: int = 0) -> Controller:
    """The same trials, and then a random factor of up to 2 at each decision."""
    still = jax.tree.map(jnp.zeros_like, shipped_weights())
    rule = controllers.learned(total_steps, still)

    def update_fn(observation, state):
        before, key = state
        log_scale, after = rule.update(observation, before)
        key, action_key = jax.random.split(key)
        action = jax.random.uniform(action_key, (), jnp.float32, -1.0, 1.0)
        is_decision = decides(before.rule_state, after.rule_state)
        noise = jnp.where(is_decision, LARGEST_STEP * action, 0.0)
        return log_scale + noise, (after, key)

    return rule._replace(
        init=lambda: (rule.init(), jax.random.PRNGKey(seed)),
        update=update_fn,
        trial=lambda state: rule.trial(state[0]),
        begin=keep_state,  # it opens a run
    )


def replay(total_steps: int) -> Controller:
    """Trials of its own, then the base rate: the mean one of a run of the policy."""
    rule = controllers.learned(total_steps)

    def update_fn(observation, state):
        log_scale, state = rule.update(observation, state)
        return jnp.where(rule.trial(state) > 0, log_scale, 0.0), state

    return rule._replace(update=update_fn)


LEARNED_ABLATIONS: dict[str, Callable[[int], Controller]] = {
    "learned_untrained": untrained,
    "learned_blind": blind,
    "learned_random": random_walk,
    "learned_replay": replay,
}
