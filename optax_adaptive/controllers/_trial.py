"""The trials that open learned: a range test (Smith, 2015), then short runs.

What they do to the parameters does not count: with_rollback goes back to the first ones
after each. The climb finds the edge, and the short runs say where below it to begin.
They are short indeed, one window each: longer ones, annealed, told no more, and took
what they cost from the run (docs/learned_experiments.md).
"""

import math
from typing import NamedTuple

import jax.numpy as jnp
import optax

from optax_adaptive._controller import Array
from optax_adaptive._search import CLEARLY, best_log_scale
from optax_adaptive.controllers._features import FeatureMemory

START = 1e-4  # first factor
# Steps of the log factor: a decade a window until the loss has fallen beyond doubt, and
# half of one from there on.
COARSE, FINE = math.log(10.0), math.log(10.0) / 2
FALL = 6.0  # errors of a window below the first loss that no noise explains
RISE = 8.0  # errors of a window above the first loss that end the climb
# So do windows without a new best once the loss has fallen: where units have died, it
# stays at that of guessing, which is below the first up to rates far above the edge.
PATIENCE = 2
LONGEST = 30  # windows of a climb, for a loss that neither falls nor rises
# Short runs at most, half a decade apart. The first is two steps below the edge.
RUNS, FIRST_RUN = 5, 2.0
# Best rate of a whole run over that of such a short one.
LONG_OVER_SHORT = 0.25
# How far above the answer the policy takes the edge to be. It stays below half of that
# edge, which is five times the answer.
BELOW = math.log(10.0)


class Trial(NamedTuple):
    """Where the trials are, and what the short runs have ended with."""

    number: Array  # shape=(), dtype=int32: 1 is the climb, then the runs; 0 once over
    edge: Array  # shape=(), dtype=float32: log factor at which the climb ended
    losses: Array  # shape=(RUNS,), dtype=float32: of the runs; inf if none
    is_upward: Array  # shape=(), dtype=bool: is this run above the first?


def first_trial() -> Trial:
    """The climb, before the first window."""
    return Trial(
        number=jnp.ones((), jnp.int32),
        edge=jnp.zeros((), jnp.float32),
        losses=jnp.full((RUNS,), jnp.inf, jnp.float32),
        is_upward=jnp.zeros((), jnp.bool_),
    )


def advance(
    trial: Trial,
    before: FeatureMemory,
    memory: FeatureMemory,
    value: Array,
    log_scale: Array,
) -> tuple[Trial, Array]:
    """Judges a window of a trial.

    Args:
      trial: Where it is; its number is not 0.
      before: The memory of the features before this window.
      memory: And with it.
      value: float32 mean of the window, inf at a blow-up.
      log_scale: float32 log factor in force.

    Returns:
      Where it is now, and the next log factor: once its number is 0, the answer. Where
      the number has changed, the parameters go back to the first ones.
    """
    climbed, climb_log_scale = _climb(trial, before, memory, value, log_scale)
    run, run_log_scale = _run(trial, memory, value)
    is_climb = trial.number == 1
    log_scale = jnp.where(is_climb, climb_log_scale, run_log_scale)
    return optax.tree.where(is_climb, climbed, run), log_scale


def _climb(
    trial: Trial,
    before: FeatureMemory,
    memory: FeatureMemory,
    value: Array,
    log_scale: Array,
) -> tuple[Trial, Array]:
    # The noise of before: where the loss rises, its noise rises too.
    edge = memory.first_value + RISE * before.noise
    is_risen = (value > edge) & (memory.windows > 2)
    # The best window decides, since a decade later the fall may be undone already.
    fall = memory.first_value - memory.best_value
    has_fallen = (fall > FALL * memory.noise) & (memory.windows > 2)
    is_flat = has_fallen & (memory.since_best >= PATIENCE)
    is_over = is_risen | is_flat | (memory.windows > LONGEST) | ~jnp.isfinite(value)
    next_log_scale = log_scale + jnp.where(has_fallen, FINE, COARSE)
    over = trial._replace(number=jnp.array(2, jnp.int32), edge=log_scale)
    return (
        optax.tree.where(is_over, over, trial),
        jnp.where(is_over, log_scale - FIRST_RUN * FINE, next_log_scale),
    )


def _run(trial: Trial, memory: FeatureMemory, value: Array) -> tuple[Trial, Array]:
    index = trial.number - 2
    losses = trial.losses.at[index].set(value)
    # Downwards for as long as that is better, and then, if the first is the best and
    # this one worse beyond doubt, once above the first: there may be a better one.
    first, best = losses[0], jnp.min(losses)
    is_turned = trial.is_upward  # this run is the one above
    is_clear = jnp.isfinite(value) & (value > first + CLEARLY * memory.noise)
    turns = is_clear & (first <= best) & ~is_turned & (index < RUNS - 1)
    is_upward = is_turned | turns
    order = jnp.arange(RUNS, dtype=jnp.int32)
    is_above = is_upward & (order == index + turns.astype(jnp.int32))
    below = jnp.where(is_above, -1, order).astype(jnp.float32)
    tops = trial.edge - FINE * (FIRST_RUN + below)
    is_worse = jnp.isfinite(best) & (is_turned | (value > best))
    goes_on = turns | (index < 2) | ~is_worse
    is_last = (index == RUNS - 1) | ~goes_on

    answer = best_log_scale(losses, tops, memory.first_value, memory.noise)
    following = tops[jnp.minimum(index + 1, RUNS - 1)]
    return Trial(
        number=jnp.where(is_last, 0, trial.number + 1),
        edge=trial.edge,
        losses=losses,
        is_upward=is_upward,
    ), jnp.where(is_last, answer + math.log(LONG_OVER_SHORT), following)
