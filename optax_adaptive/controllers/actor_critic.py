"""actor_critic: a tiny network that draws the factor, trained by PPO as it goes."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from optax_adaptive import rl
from optax_adaptive._controller import Array, Controller
from optax_adaptive.controllers import _features
from optax_adaptive.controllers._residual import Learner, residual

_WIDTH = 32  # of two tanh layers
_BATCH = 8  # blocks an update
_EPOCHS = 8  # gradient steps an update
_LEARNING_RATE = 0.01  # of these steps
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


class ActorCriticState(NamedTuple):
    """What :func:`actor_critic` learns: 3,500 numbers, half of them RMSProp's."""

    params: dict[str, Array]  # dtype=float32
    optimizer_state: Any
    experience: Experience
    size: Array  # shape=(), dtype=int32: blocks in it
    draw: Array  # shape=(), dtype=float32: the last one
    log_prob: Array  # shape=(), dtype=float32
    exploration: Array  # shape=(), dtype=float32


def actor_critic(
    alpha: float | Array = 1.3, repeat: int | Array = 4, seed: int | Array = 0
) -> Controller:
    """Learns a policy from the state of the training to the factor, by PPO.

    A network of two layers of 32 tanh units draws the action from a normal distribution
    squashed into (-1, 1), with a mean of 0 at first and a deviation that falls as one
    over the root of the number of actions. Every eight actions it takes eight steps on
    the clipped surrogate. The network, its squared gradients and the experience are in
    the optimizer state, about 14 kB. The reward and the limits on the actions are those
    of :func:`bandit`.

    Args:
      alpha: Log of the largest factor, above 0: the factor stays within
        ``exp(-alpha)`` and ``exp(alpha)``.
      repeat: Windows that an action is held, at least 2. A run should have 20 actions
        or more: ``steps / (repeat * accumulation_size)``.
      seed: Of the exploration, an integer of at least 0.

    Returns:
      A :class:`~optax_adaptive.Controller`. Chain it behind a schedule, or combine it
      with another rule by :func:`anchored`; alone it moves around the base rate.

    Raises:
      ValueError: If an argument is out of its range.

    Example:
      >>> from optax_adaptive import controllers, scale_by_controller
      >>> tx = scale_by_controller(controllers.actor_critic(), accumulation_size=10)

    Reference:
      Schulman et al., `Proximal policy optimization algorithms
      <https://arxiv.org/abs/1707.06347>`_, 2017. For learning rates: Xu et al.,
      `Learning an adaptive learning rate schedule <https://arxiv.org/abs/1909.09712>`_,
      2019
    """
    # Not Adam: half the memory, and Adam mixes dtypes, which strict promotion forbids.
    optimizer = optax.rmsprop(_LEARNING_RATE)

    def init_fn():
        # The network's own key: its first weights are no part of the exploration.
        keys = jax.random.split(jax.random.PRNGKey(jnp.asarray(seed, jnp.int32) + 1), 2)
        params = {
            "hidden_1": _normal(keys[0], (_features.SIZE, _WIDTH)),
            "bias_1": jnp.zeros((_WIDTH,), jnp.float32),
            "hidden_2": _normal(keys[1], (_WIDTH, _WIDTH)),
            "bias_2": jnp.zeros((_WIDTH,), jnp.float32),
            "head": jnp.zeros((_WIDTH, 2), jnp.float32),  # mean 0, value 0
            "bias": jnp.zeros((2,), jnp.float32),
            "log_deviation": jnp.zeros((), jnp.float32),
        }
        zero, many = jnp.zeros((), jnp.float32), jnp.zeros((_BATCH,), jnp.float32)
        return ActorCriticState(
            params=params,
            optimizer_state=optimizer.init(params),
            experience=Experience(
                jnp.zeros((_BATCH, _features.SIZE), jnp.float32), many, many, many, many
            ),
            size=jnp.zeros((), jnp.int32),
            draw=zero,
            log_prob=zero,
            exploration=zero,
        )

    def act(state, features, key, exploration):
        mean, _ = network(state.params, features[None])
        log_deviation = state.params["log_deviation"] + jnp.log(exploration)
        noise = jax.random.normal(key, (), jnp.float32)
        draw = mean[0] + jnp.exp(log_deviation) * noise
        log_prob = rl.gaussian_log_prob(draw, mean[0], log_deviation)
        state = state._replace(draw=draw, log_prob=log_prob, exploration=exploration)
        return jnp.tanh(draw), state

    def learn(state, transition):
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
        _, values = network(state.params, visited)
        advantages = rl.generalized_advantages(
            values,
            experience.reward,
            jnp.full((_BATCH,), _DISCOUNT, jnp.float32),
            _LAMBDA,
        )
        returns = advantages + values[:-1]

        def loss_fn(params):
            mean, value = network(params, experience.features)
            log_deviation = params["log_deviation"] + jnp.log(experience.exploration)
            log_prob = rl.gaussian_log_prob(experience.draw, mean, log_deviation)
            gain = rl.clipped_surrogate(
                log_prob - experience.log_prob, advantages, _CLIP
            )
            entropy = rl.gaussian_entropy(params["log_deviation"])
            error = jnp.square(value - returns)
            return jnp.mean(0.5 * error - gain) - _ENTROPY * entropy

        def step(carry, _):
            params, optimizer_state = carry
            grads = jax.grad(loss_fn)(params)
            updates, optimizer_state = optimizer.update(grads, optimizer_state)
            return (optax.apply_updates(params, updates), optimizer_state), None

        carry = (state.params, state.optimizer_state)
        (params, optimizer_state), _ = jax.lax.scan(step, carry, length=_EPOCHS)
        return state._replace(
            params=params,
            optimizer_state=optimizer_state,
            size=jnp.zeros((), jnp.int32),
        )

    return residual(Learner(init_fn, act, learn), alpha, repeat, seed)


def network(params: dict[str, Array], features: Array) -> tuple[Array, Array]:
    """Mean of the draw and value of the state, each of shape ``(n,)``."""
    x = jnp.tanh(features @ params["hidden_1"] + params["bias_1"][None])
    x = jnp.tanh(x @ params["hidden_2"] + params["bias_2"][None])
    x = x @ params["head"] + params["bias"][None]
    return x[:, 0], x[:, 1]


def _normal(key: Array, shape: tuple[int, int]) -> Array:
    """Weights of variance 1 / inputs."""
    return jax.random.normal(key, shape, jnp.float32) / np.float32(np.sqrt(shape[0]))
