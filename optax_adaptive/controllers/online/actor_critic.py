"""actor_critic: a tiny network that samples the factor, trained by PPO in the run."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from optax_adaptive import rl
from optax_adaptive._controller import Array, Controller
from optax_adaptive.controllers.learned import state_features
from optax_adaptive.controllers.learned.policy_network import PolicyWeights, score
from optax_adaptive.controllers.online import offline_prior
from optax_adaptive.controllers.online._learner import Learner
from optax_adaptive.controllers.online._residual import residual
from optax_adaptive.controllers.online.settings import OnlineSettings, or_defaults


class Experience(NamedTuple):
    """The n blocks since the last update."""

    features: Array  # shape=(n, SIZE), dtype=float32
    sample: Array  # shape=(n,), dtype=float32: the action before tanh
    log_prob: Array  # shape=(n,), dtype=float32
    exploration: Array  # shape=(n,), dtype=float32: factor on the standard deviation
    reward: Array  # shape=(n,), dtype=float32


class Networks(NamedTuple):
    """What PPO trains."""

    actor: PolicyWeights  # features -> mean of the sample
    critic: PolicyWeights  # features -> value of the state
    log_std: Array  # shape=(), dtype=float32


class ActorCriticState(NamedTuple):
    """What :func:`actor_critic` learns: 1,200 numbers, two fifths of them RMSProp's."""

    networks: Networks  # dtype=float32
    optimizer_state: Any
    experience: Experience
    size: Array  # shape=(), dtype=int32: blocks in it
    sample: Array  # shape=(), dtype=float32: the last
    log_prob: Array  # shape=(), dtype=float32: of the last sample
    exploration: Array  # shape=(), dtype=float32


def actor_critic(
    alpha: float | Array = 2.3,
    repeat: int | Array = 4,
    seed: int | Array = 0,
    prior: offline_prior.Prior | None = None,
    settings: OnlineSettings | None = None,
) -> Controller:
    """Keeps training, by PPO, a policy that maps the state of training to the factor.

    A network with a hidden layer of 12 tanh units and a linear path samples the action
    from a normal distribution squashed into (-1, 1), whose standard deviation shrinks
    as one over the root of the number of actions. It was fitted offline, to the final
    losses that followed each action in thousands of states of small training runs.
    Every eight actions it takes eight small steps on the clipped surrogate. The
    network, its critic, their squared gradients and the experience are in the optimizer
    state, about 5 kB. The reward, and how proposals become actions, are as in
    :func:`bandit`. Like it, use it within :func:`optax_adaptive.with_averaging`.

    Args:
      alpha: Log of the largest factor, above 0: the factor stays within
        ``exp(-alpha)`` and ``exp(alpha)``. The prior was fitted for log 10.
      repeat: Windows that an action lasts, at least 2. A run should have 20 actions or
        more: ``steps / (repeat * accumulation_size)``.
      seed: Seed of the exploration, an integer of at least 0.
      prior: Another prior, from :func:`load_prior`. Defaults to the one shipped.
      settings: Other constants, a ``controllers.online.OnlineSettings``.

    Returns:
      A :class:`~optax_adaptive.Controller`. Chain it behind a schedule, or combine it
      with another rule by :func:`anchored`; alone it moves around the base learning
      rate.

    Raises:
      ValueError: If an argument is out of its range, or an array of ``prior`` is of
        another shape or not finite.
      TypeError: If ``prior`` does not come from :func:`load_prior`, or ``settings`` are
        of another kind.

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
    settings = or_defaults(settings)
    first = offline_prior.checked(prior).actor
    # Not Adam: half the memory, and Adam mixes dtypes, which strict promotion forbids.
    optimizer = optax.rmsprop(settings.ppo_learning_rate)
    improve = _ppo(optimizer, settings)

    def init_fn():
        return _first_state(first, optimizer, settings)

    def act(state, features, key, exploration):
        mean = score(state.networks.actor, features)
        log_std = state.networks.log_std + jnp.log(exploration)
        sample = mean + jnp.exp(log_std) * jax.random.normal(key, (), jnp.float32)
        log_prob = rl.gaussian_log_prob(sample, mean, log_std)
        state = state._replace(
            sample=sample, log_prob=log_prob, exploration=exploration
        )
        return jnp.tanh(sample), state

    def learn(state, transition):
        # The density of the sample, not of the action taken, which lies hundreds of
        # standard deviations off the mean at the action ceiling: ratios of such
        # densities overflow.
        newest = Experience(
            features=transition.features_tm1,
            sample=state.sample,
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
        is_full = state.size == settings.ppo_batch
        return jax.lax.cond(
            is_full, improve, lambda state, _: state, state, transition.features_t
        )

    learner = Learner(init_fn, act, learn)
    return residual("actor_critic", learner, alpha, repeat, seed, settings)


def _first_state(
    first: PolicyWeights,
    optimizer: optax.GradientTransformation,
    settings: OnlineSettings,
) -> ActorCriticState:
    """The prior's actor, a critic of value 0, and no experience."""
    actor = PolicyWeights(*map(jnp.array, first))
    networks = Networks(
        actor=actor,
        critic=jax.tree.map(jnp.zeros_like, actor)._replace(
            hidden=actor.hidden, hidden_bias=actor.hidden_bias
        ),
        log_std=jnp.log(jnp.array(settings.ppo_std, jnp.float32)),
    )
    zero = jnp.zeros((), jnp.float32)
    many = jnp.zeros((settings.ppo_batch,), jnp.float32)
    visited = jnp.zeros((settings.ppo_batch, state_features.SIZE), jnp.float32)
    return ActorCriticState(
        networks=networks,
        optimizer_state=optimizer.init(networks),
        experience=Experience(visited, many, many, many, many),
        size=jnp.zeros((), jnp.int32),
        sample=zero,
        log_prob=zero,
        exploration=zero,
    )


def _ppo(
    optimizer: optax.GradientTransformation, settings: OnlineSettings
) -> Callable[[ActorCriticState, Array], ActorCriticState]:
    """PPO's update of the networks, by a full batch and the features that follow it."""

    def loss_fn(networks, experience, advantages, returns):
        mean = scores(networks.actor, experience.features)
        log_std = networks.log_std + jnp.log(experience.exploration)
        log_prob = rl.gaussian_log_prob(experience.sample, mean, log_std)
        surrogate = rl.clipped_surrogate(
            log_prob - experience.log_prob, advantages, settings.ppo_clip
        )
        entropy = rl.gaussian_entropy(networks.log_std)
        error = jnp.square(scores(networks.critic, experience.features) - returns)
        return jnp.mean(0.5 * error - surrogate) - settings.ppo_entropy * entropy

    def improve(state, features_t):
        experience = state.experience
        visited = jnp.concatenate([experience.features, features_t[None]])
        advantages = rl.generalized_advantages(
            scores(state.networks.critic, visited),
            experience.reward,
            jnp.full((settings.ppo_batch,), settings.ppo_discount, jnp.float32),
            settings.ppo_lambda,
        )
        returns = advantages + scores(state.networks.critic, experience.features)

        def step(carry, _):
            networks, optimizer_state = carry
            grads = jax.grad(loss_fn)(networks, experience, advantages, returns)
            updates, optimizer_state = optimizer.update(grads, optimizer_state)
            return (optax.apply_updates(networks, updates), optimizer_state), None

        carry = (state.networks, state.optimizer_state)
        (networks, optimizer_state), _ = jax.lax.scan(
            step, carry, length=settings.ppo_epochs
        )
        return state._replace(
            networks=networks,
            optimizer_state=optimizer_state,
            size=jnp.zeros((), jnp.int32),
        )

    return improve


def scores(policy: PolicyWeights, features: Array) -> Array:
    """:func:`score` of each row."""
    return jax.vmap(score, (None, 0))(policy, features)
