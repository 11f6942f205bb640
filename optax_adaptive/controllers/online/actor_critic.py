"""actor_critic: a tiny network that draws the factor, trained by PPO as it goes."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from optax_adaptive import rl
from optax_adaptive._controller import Array, Controller
from optax_adaptive.controllers.learned import feature_memory
from optax_adaptive.controllers.learned.policy_network import PolicyWeights, score
from optax_adaptive.controllers.online import offline_prior
from optax_adaptive.controllers.online._residual import Learner, residual

_BATCH = 8  # blocks an update
_EPOCHS = 8  # gradient steps an update
_LEARNING_RATE = 0.0003  # of these steps
_DEVIATION = 0.1  # of the draw, before the first block
_CLIP = 0.2
_DISCOUNT = 0.99
_LAMBDA = 0.95
_ENTROPY = 0.05


class Experience(NamedTuple):
    """Blocks since the last update."""

    features: Array  # shape=(_BATCH, SIZE), dtype=float32
    draw: Array  # shape=(_BATCH,), dtype=float32: the action before tanh
    log_prob: Array  # shape=(_BATCH,), dtype=float32
    exploration: Array  # shape=(_BATCH,), dtype=float32: factor on the deviation
    reward: Array  # shape=(_BATCH,), dtype=float32


class Networks(NamedTuple):
    """What PPO trains."""

    actor: PolicyWeights  # features -> mean of the draw
    critic: PolicyWeights  # features -> value of the state
    log_deviation: Array  # shape=(), dtype=float32


class ActorCriticState(NamedTuple):
    """What :func:`actor_critic` learns: 1,200 numbers, two fifths of them RMSProp's."""

    networks: Networks  # dtype=float32
    optimizer_state: Any
    experience: Experience
    size: Array  # shape=(), dtype=int32: blocks in it
    draw: Array  # shape=(), dtype=float32: the last
    log_prob: Array  # shape=(), dtype=float32: of the last draw
    exploration: Array  # shape=(), dtype=float32


def actor_critic(
    alpha: float | Array = 2.3,
    repeat: int | Array = 4,
    seed: int | Array = 0,
    prior: offline_prior.Prior | None = None,
) -> Controller:
    """Goes on training, by PPO, a policy from the state of the training to the factor.

    A network with a hidden layer of 12 tanh units and a linear path draws the action
    from a normal distribution squashed into (-1, 1), with a deviation that falls as one
    over the root of the number of actions. It was fitted offline, to what each action
    would have ended with in thousands of states of small trainings. Every eight actions
    it takes eight small steps on the clipped surrogate. The network, its critic, their
    squared gradients and the experience are in the optimizer state, about 5 kB. The
    reward, and what becomes of the actions, are those of :func:`bandit`. Use it within
    :func:`optax_adaptive.with_averaging`, like that.

    Args:
      alpha: Log of the largest factor, above 0: the factor stays within
        ``exp(-alpha)`` and ``exp(alpha)``. The prior was fitted for log 10.
      repeat: Windows that an action is held, at least 2. A run should have 20 actions
        or more: ``steps / (repeat * accumulation_size)``.
      seed: Of the exploration, an integer of at least 0.
      prior: Another prior, from :func:`load_prior`. Defaults to the one
        shipped.

    Returns:
      A :class:`~optax_adaptive.Controller`. Chain it behind a schedule, or combine it
      with another rule by :func:`anchored`; alone it moves around the base rate.

    Raises:
      ValueError: If an argument is out of its range, or an array of ``prior`` is of
        another shape or not finite.
      TypeError: If ``prior`` is something else.

    Example:
      >>> import optax
      >>> from optax_adaptive import controllers, scale_by_controller, with_averaging
      >>> rule = scale_by_controller(controllers.actor_critic(), accumulation_size=10)
      >>> tx = with_averaging(optax.chain(optax.adam(1e-3), rule))

    Reference:
      Schulman et al., `Proximal policy optimization algorithms
      <https://arxiv.org/abs/1707.06347>`_, 2017. For learning rates: Xu et al.,
      `Learning an adaptive learning rate schedule <https://arxiv.org/abs/1909.09712>`_,
      2019
    """
    first = offline_prior.checked(prior).actor
    # Not Adam: half the memory, and Adam mixes dtypes, which strict promotion forbids.
    optimizer = optax.rmsprop(_LEARNING_RATE)

    def init_fn():
        actor = PolicyWeights(*map(jnp.array, first))
        networks = Networks(
            actor=actor,
            # The same hidden layer, and a value of 0.
            critic=jax.tree.map(jnp.zeros_like, actor)._replace(
                hidden=actor.hidden, hidden_bias=actor.hidden_bias
            ),
            log_deviation=jnp.log(jnp.array(_DEVIATION, jnp.float32)),
        )
        zero, many = jnp.zeros((), jnp.float32), jnp.zeros((_BATCH,), jnp.float32)
        return ActorCriticState(
            networks=networks,
            optimizer_state=optimizer.init(networks),
            experience=Experience(
                jnp.zeros((_BATCH, feature_memory.SIZE), jnp.float32),
                many,
                many,
                many,
                many,
            ),
            size=jnp.zeros((), jnp.int32),
            draw=zero,
            log_prob=zero,
            exploration=zero,
        )

    def act(state, features, key, exploration):
        mean = score(state.networks.actor, features)
        log_deviation = state.networks.log_deviation + jnp.log(exploration)
        draw = mean + jnp.exp(log_deviation) * jax.random.normal(key, (), jnp.float32)
        log_prob = rl.gaussian_log_prob(draw, mean, log_deviation)
        state = state._replace(draw=draw, log_prob=log_prob, exploration=exploration)
        return jnp.tanh(draw), state

    def learn(state, transition):
        # Of the draw, and not of the action taken, which lies hundreds of deviations
        # from the mean where the reach ends first: ratios of such densities overflow.
        newest = Experience(
            features=transition.features_tm1,
            draw=state.draw,
            log_prob=state.log_prob,
            exploration=state.exploration,
            reward=transition.r_t,
        )
        experience = jax.tree.map(
            lambda buffer, entry: buffer.at[state.size].set(entry),
            state.experience,
            newest,
        )
        state = state._replace(experience=experience, size=state.size + 1)
        return jax.lax.cond(
            state.size == _BATCH, improve, lambda state, _: state, state, transition
        )

    def improve(state, transition):
        experience = state.experience
        visited = jnp.concatenate([experience.features, transition.features_t[None]])
        advantages = rl.generalized_advantages(
            scores(state.networks.critic, visited),
            experience.reward,
            jnp.full((_BATCH,), _DISCOUNT, jnp.float32),
            _LAMBDA,
        )
        returns = advantages + scores(state.networks.critic, experience.features)

        def loss_fn(networks):
            mean = scores(networks.actor, experience.features)
            log_deviation = networks.log_deviation + jnp.log(experience.exploration)
            log_prob = rl.gaussian_log_prob(experience.draw, mean, log_deviation)
            gain = rl.clipped_surrogate(
                log_prob - experience.log_prob, advantages, _CLIP
            )
            entropy = rl.gaussian_entropy(networks.log_deviation)
            error = jnp.square(scores(networks.critic, experience.features) - returns)
            return jnp.mean(0.5 * error - gain) - _ENTROPY * entropy

        def step(carry, _):
            networks, optimizer_state = carry
            grads = jax.grad(loss_fn)(networks)
            updates, optimizer_state = optimizer.update(grads, optimizer_state)
            return (optax.apply_updates(networks, updates), optimizer_state), None

        carry = (state.networks, state.optimizer_state)
        (networks, optimizer_state), _ = jax.lax.scan(step, carry, length=_EPOCHS)
        return state._replace(
            networks=networks,
            optimizer_state=optimizer_state,
            size=jnp.zeros((), jnp.int32),
        )

    return residual("actor_critic", Learner(init_fn, act, learn), alpha, repeat, seed)


def scores(policy: PolicyWeights, features: Array) -> Array:
    """:func:`score` of each row."""
    return jax.vmap(score, (None, 0))(policy, features)
