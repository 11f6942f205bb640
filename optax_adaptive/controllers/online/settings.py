"""Constants of the online learners, in one tuple: an ablation is an argument."""

from collections.abc import Callable
from typing import NamedTuple

from optax_adaptive.controllers.online._learner import Learner
from optax_adaptive.state.validation import check_settings


def unchanged(learner: Learner) -> Learner:
    """The learner itself."""
    return learner


class OnlineSettings(NamedTuple):
    """Constants of ``bandit``, ``q_learning`` and ``actor_critic``.

    A learner ignores the constants of the other two.
    """

    # The reward of a block of windows.
    reward_clip: float = 3.0  # combined standard errors, in either direction
    rise_errors: float = 2.5  # a larger rise, in combined standard errors, ends a block
    rise_penalty: float = 1.0  # of such a rise, beside the rise itself
    blow_up_penalty: float = 10.0  # of a window without a finite value, added to that
    baseline_weight: float = 0.3  # of the newest block in the expected decrease
    validation_weight: float = 0.2  # of the newest validation in its noise
    longest_wait: int = 10  # for a validation, if there was one before, in blocks
    rewards_raw_decrease: bool = False  # no baseline, unit, bound or penalty

    # The action ceiling.
    has_ceiling: bool = True
    ceiling_growth: float = 0.5  # per block; halved with every rise of the loss
    # Factor on the growth above action 0: early on a learning rate that is too large
    # shows no more damage than a good one, and the damage shows later.
    growth_above_anchor: float = 0.5
    # Factor on the growth per block after a rise: one false rise has no lasting effect.
    growth_recovery: float = 1.2
    ceiling_retreat: float = 0.5  # below an action at which the loss rose

    # Smoothing and dead band.
    smoothing_weight: float = 0.3  # of the newest proposal in the mean, upwards
    dead_band: float = 0.2  # half width: a factor of 1.6, with a bound of ten
    gain: float = 3.0  # on what exceeds the dead band

    # Changes the learner itself, say to one that never learns or sees fewer features.
    wrap_learner: Callable[[Learner], Learner] = unchanged

    # bandit, with a posterior over weights ("thompson" and "ucb").
    regret_scale: float = 10.0  # reward of a regret of 1, the unit of the prior
    prior_precision: float = 100.0  # blocks that the prior is worth: a few runs
    level_precision: float = 0.1  # the same, for the mean of all rewards
    reward_std: float = 1.0  # standard deviation of a reward
    bandit_discount: float = 0.98  # what a block is worth a block later

    # bandit, by Exp3.S.
    exp3s_step_size: float = 0.3
    exp3s_sharing: float = 0.02  # of the weights, to every action
    exp3s_epsilon: float = 0.1  # probability of a random action, times the exploration

    # q_learning.
    q_step_size: float = 0.1
    q_discount: float = 0.8
    q_lambda: float = 0.9
    q_reward: float = 0.02  # regret that a reward of 1 is worth, the unit of the prior
    q_epsilon: float = 0.1  # probability of a random action, times the exploration
    q_temperature: float = 0.03  # regret at which a random action is 1 / e as likely

    # actor_critic, by PPO.
    ppo_batch: int = 8  # blocks per update
    ppo_epochs: int = 8  # gradient steps per update
    ppo_learning_rate: float = 0.0003  # of these steps
    ppo_std: float = 0.1  # standard deviation of an action before tanh, at first
    ppo_clip: float = 0.2
    ppo_discount: float = 0.99
    ppo_lambda: float = 0.95
    ppo_entropy: float = 0.05


DEFAULTS = OnlineSettings()


def or_defaults(settings: OnlineSettings | None) -> OnlineSettings:
    """The settings, or those by default; TypeError if they are of another kind."""
    settings = DEFAULTS if settings is None else settings
    check_settings(settings, OnlineSettings)
    return settings
