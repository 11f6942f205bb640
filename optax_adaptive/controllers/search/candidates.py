"""Candidates: short trial runs below the largest stable rate, annealed and compared.

All begin at the same parameters. Annealing takes away the noise that a large rate adds,
and with it most of the bias of short trials towards small rates (Wu et al., 2018).
"""

import math
from typing import NamedTuple

import jax.numpy as jnp

from optax_adaptive._controller import Array
from optax_adaptive.controllers.search.settings import (
    CANDIDATES,
    MOST_CANDIDATES,
    TINY,
    WARM_UP,
    Lengths,
    SearchSettings,
    SearchState,
    done,
    opened,
)
from optax_adaptive.signals import history
from optax_adaptive.state.trees import select


class Judged(NamedTuple):
    """What there is to choose from once a candidate has ended."""

    losses: Array  # shape=(8,), dtype=float32
    error: Array  # shape=(), dtype=float32: standard error of each of them
    # shape=(), dtype=bool: does the fourth candidate run above the first?
    is_above: Array
    is_last: Array  # shape=(), dtype=bool: none follows


def run_candidate(
    state: SearchState, settings: SearchSettings, sized: Lengths
) -> tuple[SearchState, Array]:
    """A step of a trial run; at its end the run is judged, and another may follow."""
    judged = _judge(state, settings, sized)
    log_scales = _log_scales(state, judged.is_above, settings)
    annealed = 1.0 - (state.clock.astype(jnp.float32) - 1.0) / sized.candidate_steps
    # Resumed with fewer total_steps, a candidate may be past its end.
    annealed = jnp.maximum(annealed, 0.5 / sized.candidate_steps)
    log_scale = log_scales[state.candidate] + jnp.log(annealed)
    # A high loss does not end a candidate: first steps at a good rate may overshoot.
    is_over = state.is_lost | (state.clock >= sized.candidate_steps)
    ended = opened(state, CANDIDATES)._replace(
        candidate=state.candidate + 1,
        candidate_losses=judged.losses,
        restores=jnp.ones((), jnp.bool_),
    )
    found = _answer(state, ended, judged, log_scales, settings)
    if not sized.warm_up:
        found = done(found)
    ended = select(judged.is_last, found, ended)
    return select(is_over, ended, state), log_scale


def _standard_error(state: SearchState, sized: Lengths) -> Array:
    # The mean skips the largest loss, which makes it a little noisier: hence 1.3.
    return 1.3 * state.found.standard_deviation / math.sqrt(sized.tail)


def _is_above(losses: Array, error: Array, settings: SearchSettings) -> Array:
    """Whether the fourth candidate runs at a rate above that of the first.

    Every other one runs below the one before it. The fourth runs above the first if
    that is the best of three beyond doubt. Two candidates are not enough to tell: a
    rate so large that a language model learns only how often letters occur may do
    better than the next lower one, and worse than a far lower one.
    """
    first, *others = losses[: settings.least_candidates]
    least = first + settings.clear_errors * error
    return (jnp.stack(others) > least).all() & jnp.isfinite(others[-1])


def _log_scales(state: SearchState, is_above: Array, settings: SearchSettings) -> Array:
    """The log factors of all candidates, float32 of shape (8,).

    Candidates to come get the rate of the one that runs, so that the last entry is the
    lowest rate tried: the answer if all diverge.
    """
    order = jnp.arange(MOST_CANDIDATES, dtype=jnp.int32)
    below = jnp.minimum(order, state.candidate).astype(jnp.float32)
    fourth = settings.least_candidates
    below = below.at[fourth].set(jnp.where(is_above, -1.0, below[fourth]))
    below += state.first_candidate
    return state.log_scale - below * math.log(settings.ratio)


def _may_be_ruined(
    state: SearchState, losses: Array, doubt: Array, settings: SearchSettings
) -> Array:
    """Whether the best candidate so far may have ruined the network, bool of shape ().

    Where first outputs are worse than constant ones, and the range test went to its
    last step, that lowers the loss as well. Such candidates come first, since
    theirs are the highest rates, and one of them may seem best by chance. They do not
    get below the lowest loss of the range test.
    """
    best = jnp.min(losses)
    is_lower = state.found.first_value - best > doubt
    is_early = jnp.argmin(losses) < settings.least_candidates - 1
    return is_lower & is_early & (state.lowest - best < doubt)


def _judge(state: SearchState, settings: SearchSettings, sized: Lengths) -> Judged:
    """The losses as if the candidate that runs ended now, and whether others follow."""
    error = _standard_error(state, sized)
    loss = history.mean_without_largest(state.losses[-sized.tail :])
    loss = jnp.where(state.is_lost, jnp.inf, loss)
    losses = state.candidate_losses.at[state.candidate].set(loss)
    best = jnp.min(losses)
    is_enough = state.candidate >= settings.least_candidates - 1
    is_above = _is_above(losses, error, settings)
    is_third = state.candidate == settings.least_candidates - 1
    # At rates far too high, losses may differ by chance alone, and a lower rate may do
    # better: so only a candidate that is clearly worse is the last.
    tie = jnp.maximum(error, settings.tie * (state.found.first_value - best))
    # The best has an error, too: hence the root.
    doubt = settings.clear_errors * error
    may_be_ruined = _may_be_ruined(state, losses, doubt, settings)
    tie = jnp.where(may_be_ruined, math.sqrt(2.0) * doubt, tie)
    goes_on = jnp.where(is_above, is_third, loss <= best + tie)
    return Judged(
        losses=losses,
        error=error,
        is_above=is_above,
        is_last=(state.candidate == MOST_CANDIDATES - 1) | (is_enough & ~goes_on),
    )


def _answer(
    state: SearchState,
    ended: SearchState,
    judged: Judged,
    log_scales: Array,
    settings: SearchSettings,
) -> SearchState:
    """The state with the rate found; it keeps the last parameters or the first ones."""
    least = jnp.min(judged.losses)
    doubt = settings.clear_errors * judged.error
    # If none has lowered the loss beyond doubt, as at a flat start, lower rates are no
    # better, and only the first three count of those that may be as good as the best.
    may_be_best = judged.losses <= least + doubt
    is_first = jnp.cumsum(may_be_best) <= settings.least_candidates
    counts = (state.found.first_value - least > doubt) | (may_be_best & is_first)
    best = best_log_scale(
        jnp.where(counts, judged.losses, jnp.inf),
        *(log_scales, state.found.first_value, judged.error),
    )
    found = best + math.log(settings.long_over_short)
    if settings.long_over_mean > 0.0:
        mean = (best + state.log_scale) / 2.0
        found = jnp.maximum(found, mean + math.log(settings.long_over_mean))
    least = jnp.maximum(found, best + math.log(settings.long_over_short_without_noise))
    found = jnp.where(state.found.has_noise, found, least)
    is_low = log_scales[state.candidate] < found + math.log(settings.keep_below)
    return opened(ended, WARM_UP)._replace(
        restores=~is_low | state.is_lost,
        found=state.found._replace(log_scale=found),
    )


def best_log_scale(
    losses: Array, log_scales: Array, first_value: Array, error: Array
) -> Array:
    """The log factor of the best of several trial runs.

    Args:
      losses: float32 of shape (n,), at the end of each; inf if lost or not run.
      log_scales: float32 of shape (n,), their log factors.
      first_value: float32 of shape (), the loss before each of them.
      error: float32 of shape (), of each loss.

    Returns:
      float32 of shape (): the last log factor if all are lost.
    """
    # Runs that cannot be distinguished share the answer, so that noise does not decide
    # alone; 1% of the progress made counts as no difference.
    best = jnp.min(losses)
    blur = error + 0.01 * jnp.maximum(first_value - best, 0.0) + TINY
    excess = jnp.where(jnp.isfinite(losses), (losses - best) / blur, jnp.inf)
    weights = jnp.exp(-0.5 * jnp.square(excess))
    mean = jnp.sum(weights * log_scales) / jnp.maximum(jnp.sum(weights), TINY)
    return jnp.where(jnp.isfinite(best), mean, log_scales[-1])
