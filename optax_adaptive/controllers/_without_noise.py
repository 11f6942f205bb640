"""What losses without noise need: a linear end of the rate, and no fear of small rises.

With noise, an average of the parameters does what annealing does. Without it, only the
rate bounds how far the loss comes down (linear decay: Defazio et al., 2023), and Adam's
loss leaps a hundredfold by itself, and is back within fifty steps.
"""

from typing import NamedTuple

import jax.numpy as jnp

from optax_adaptive._controller import Array, Controller, ControllerState, nothing_found
from optax_adaptive.state.packing import switch

# Last part of the run in which the rate falls, and in about how many windows.
FRACTION, WINDOWS = 0.3, 100
SMALL_RISE = 0.01  # of the decrease so far


class WithoutNoiseState(NamedTuple):
    """State of :func:`without_noise`."""

    rule_state: ControllerState
    has_noise: Array  # shape=(), dtype=bool: as the search has found
    step: Array  # shape=(), dtype=int32: steps at the last decision
    is_asked: Array  # shape=(), dtype=bool: was the rule asked there?
    log_share: Array  # shape=(), dtype=float32: log of what is left of the rate


def without_noise(rule: Controller, total_steps: int | None) -> Controller:
    """``rule``; where losses have no noise, its rate falls to 0 at the end.

    Whether they have is known from the search that goes before, by ``begin``. While the
    rate falls, the rule is asked only after a blow-up, and ``eval_params`` gives the
    parameters. Past the end the rate is as it was before it fell. Small rises of such
    losses are no spikes, unless they last.

    Args:
      rule: For the run until then.
      total_steps: Number of updates of the whole run. If it is None, the rate is kept.

    Returns:
      A :class:`~optax_adaptive.Controller`.
    """
    fraction = FRACTION
    if total_steps is None:  # an end that no run reaches
        total_steps, fraction = jnp.iinfo(jnp.int32).max, 0.0
    length = max(round(fraction * total_steps), 1)
    window = max(length // WINDOWS, 1)
    start = total_steps - length

    def init_fn():
        found = nothing_found()
        return WithoutNoiseState(
            rule_state=rule.init(),
            has_noise=found.has_noise,
            step=jnp.zeros((), jnp.int32),
            is_asked=jnp.ones((), jnp.bool_),
            log_share=jnp.zeros((), jnp.float32),
        )

    def is_annealing(state):
        is_last = (state.step >= start) & (state.step <= total_steps)
        return ~state.has_noise & is_last

    def follow(rule_state, observation):
        log_scale, rule_state = rule.update(observation, rule_state)
        return rule_state, log_scale

    def update_fn(observation, state):
        # The rule sees, and answers with, the rate before the anneal.
        log_scale = observation.log_scale - state.log_share
        is_asked = ~is_annealing(state) | ~jnp.isfinite(observation.value)
        # Past the end, losses are not to be compared with those of the anneal.
        is_rolled_back = observation.is_rolled_back | ~state.is_asked
        seen = observation._replace(log_scale=log_scale, is_rolled_back=is_rolled_back)
        rule_state, log_scale = switch(
            is_asked.astype(jnp.int32),
            [lambda both: (both[0], both[1].log_scale), lambda both: follow(*both)],
            like=(state.rule_state, log_scale),
            operands=(state.rule_state, seen),
        )
        state = state._replace(
            rule_state=rule_state, step=observation.step + 1, is_asked=is_asked
        )
        # Of the window to come; its last step is the last one above 0.
        left = (total_steps - state.step).astype(jnp.float32) / length
        share = jnp.clip(left, 0.5 * window / length, 1.0)
        log_share = jnp.where(is_annealing(state), jnp.log(share), 0.0)
        return log_scale + log_share, state._replace(log_share=log_share)

    def request_fn(state):
        asked = rule.request(state.rule_state)
        size = asked.accumulation_size
        size = jnp.where(
            state.step < start, jnp.minimum(size, start - state.step), size
        )
        size = jnp.where(is_annealing(state), window, size)
        return asked._replace(
            # Events of a decision, and the rule has made none since.
            restore=asked.restore & state.is_asked,
            snapshot=asked.snapshot & state.is_asked,
            average_lags=asked.average_lags | is_annealing(state),
            accumulation_size=jnp.where(state.has_noise, asked.accumulation_size, size),
            small_rise=jnp.where(state.has_noise, 0.0, SMALL_RISE).astype(jnp.float32),
        )

    def begin_fn(state, found):
        return state._replace(
            rule_state=rule.begin(state.rule_state, found), has_noise=found.has_noise
        )

    return rule._replace(
        init=init_fn, update=update_fn, request=request_fn, begin=begin_fn
    )
