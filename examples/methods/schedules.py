"""The static schedules, each from peak rate, steps and steps an epoch.

The peak may be traced, so that one compiled training serves every rate.
"""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import optax


def step_decay(peak: Any, steps: int, steps_per_epoch: int) -> optax.Schedule:
    """A tenth of the rate every ten epochs."""
    boundaries = range(10 * steps_per_epoch, steps, 10 * steps_per_epoch)
    return optax.piecewise_constant_schedule(peak, dict.fromkeys(boundaries, 0.1))


def step_fifths(peak: Any, steps: int, steps_per_epoch: int) -> optax.Schedule:
    """A tenth of the rate after each fifth: ``step_decay`` for a run of any length."""
    boundaries = {round(k * steps / 5): 0.1 for k in range(1, 5)}
    return optax.piecewise_constant_schedule(peak, boundaries)


def step_50_75(peak: Any, steps: int, steps_per_epoch: int) -> optax.Schedule:
    """A tenth of the rate from half of the run on, a hundredth from three quarters on.

    As He et al. (2016, arXiv 1512.03385) trained ResNets.
    """
    boundaries = dict.fromkeys((steps // 2, 3 * steps // 4), 0.1)
    return optax.piecewise_constant_schedule(peak, boundaries)


def cosine(peak: Any, steps: int, steps_per_epoch: int) -> optax.Schedule:
    """Half a cosine down to 1e-6."""
    alpha = jnp.minimum(1e-6 / peak, 1)
    return optax.cosine_decay_schedule(peak, steps, alpha)  # type: ignore


def linear(peak: Any, steps: int, steps_per_epoch: int) -> optax.Schedule:
    """Down to 0 from the first step on (Defazio et al., 2023, arXiv 2310.07831)."""
    return optax.linear_schedule(peak, 0.0, steps)


def warmup_linear(peak: Any, steps: int, steps_per_epoch: int) -> optax.Schedule:
    """Up over the first tenth, down to 0 over the rest."""
    warmup = max(steps // 10, 1)
    rise = optax.linear_schedule(0, peak, warmup)
    fall = optax.linear_schedule(peak, 0, max(steps - warmup, 1))
    return optax.join_schedules([rise, fall], [warmup])


def wsd(peak: Any, steps: int, steps_per_epoch: int) -> optax.Schedule:
    """Warmup over 5%, stable, decay by 1 - sqrt over the last 20%."""
    warmup, decay = max(steps // 20, 1), max(steps // 5, 1)
    return optax.join_schedules(
        [
            optax.linear_schedule(0, peak, warmup),
            optax.constant_schedule(peak),
            lambda step: peak * (1 - jnp.sqrt(jnp.clip(step / decay, 0, 1))),
        ],
        [warmup, steps - decay],
    )


def one_cycle(peak: Any, steps: int, steps_per_epoch: int) -> optax.Schedule:
    """Smith's: from a 25th up to the peak over 30%, then far below the start."""
    return optax.cosine_onecycle_schedule(max(steps, 4), peak)


SCHEDULES: dict[str, Callable[[Any, int, int], optax.Schedule]] = {
    "fixed": lambda peak, steps, steps_per_epoch: optax.constant_schedule(peak),
    "step": step_decay,
    "step_fifths": step_fifths,
    "step_50_75": step_50_75,
    "cosine": cosine,
    "linear": linear,
    "warmup_linear": warmup_linear,
    "wsd": wsd,
    "one_cycle": one_cycle,
}
