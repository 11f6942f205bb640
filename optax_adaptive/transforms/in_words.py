"""in_words: the phase of a run, and what made the learning rate in force."""

import math
import re
from collections.abc import Mapping
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from optax_adaptive._controller import PROBE_WARM_UP, ROUNDING, Array
from optax_adaptive.controllers.tuned import tuned
from optax_adaptive.signals import window_statistics
from optax_adaptive.state.controller_state import ScaleByControllerState
from optax_adaptive.state.packing import unpack
from optax_adaptive.state.trees import over_leading_axes
from optax_adaptive.transforms._observation import Memory, layout

PHASES = ("calibrate", "range test", "candidates", "maintain")
CAUSES = (
    "chosen by the rule",
    "tried by the search",
    "rising to the rate found",
    "found by the search",
    "lowered by the rate correction",
    "raised by the rate correction",
    "halved after a blow-up",
    "lowered by a restart",
    "lowered towards the end",
)
RULE, TRIED, RISING, FOUND, LOWERED, RAISED, HALVED, RESTARTED, ANNEALED = range(
    len(CAUSES)
)


def in_words(numbers: Mapping[str, Any]) -> dict[str, str]:
    """Names the phase of a run, and what made the learning rate in force.

    Strings cannot live inside ``jax.jit``: call it outside, on what :func:`summary`
    returned.

    Args:
      numbers: From :func:`summary`.

    Returns:
      For each ``phase`` and ``cause`` in ``numbers``, under the same path,
      ``phase_name`` (``"calibrate"``, ``"range test"``, ``"candidates"``,
      ``"warm-up"`` or ``"maintain"``; ``"rule"`` for rules other than that of
      :func:`autotune`, except while they search) and ``cause_name``: ``"tried by the
      search"``, ``"rising to the rate found"``, ``"found by the search"``, ``"lowered
      by the rate correction"``, ``"raised by the rate correction"``, ``"halved after a
      blow-up"``, ``"lowered by a restart"`` or ``"lowered towards the end"``, of which
      the last that applies is given;
      ``"chosen by the rule"`` for other rules.

    Raises:
      ValueError: If the numbers are those of several runs, as from ``jax.vmap``.

    Example:
      >>> import jax.numpy as jnp, optax, optax_adaptive
      >>> state = optax_adaptive.autotune(optax.adam(1e-3)).init(jnp.ones(3))
      >>> optax_adaptive.in_words(optax_adaptive.summary(state))
      {'phase_name': 'calibrate', 'cause_name': 'tried by the search'}
    """
    words = {}
    for name in numbers:
        path, _, last = name.rpartition("/")
        if last != "phase":
            continue
        prefix = f"{path}/" if path else ""
        if np.ndim(numbers[name]):
            raise ValueError(
                f"in_words describes one run, but {name!r} has the shape "
                f"{np.shape(numbers[name])}: index the numbers of one run, as in "
                "jax.tree.map(lambda number: number[0], summary(opt_state))"
            )
        phase, cause = int(numbers[name]), int(numbers[f"{prefix}cause"])
        after = {RULE: "rule", RISING: "warm-up"}.get(cause, PHASES[-1])
        words[f"{prefix}phase_name"] = PHASES[phase] if phase < 3 else after
        words[f"{prefix}cause_name"] = CAUSES[cause]
    return words


def cause_of(
    state: ScaleByControllerState, statistics: window_statistics.WindowStatistics
) -> Array:
    """Index in ``CAUSES`` of what made the factor in force, int32."""
    annealing = _annealing(state)
    cause = jnp.full_like(statistics.request.probe, RULE)
    if annealing is not None:
        maintained = annealing.rule_state
        # Until a rate is found, the last two lines of this function decide.
        found = jnp.where(statistics.found_scale > 0.0, statistics.found_scale, 1.0)
        change = jnp.log(state.lr_scale / found)
        is_low, is_high = change < -10 * ROUNDING, change > 10 * ROUNDING
        cause = jnp.where(is_low, LOWERED, jnp.where(is_high, RAISED, FOUND))
        cause = jnp.where(maintained.backoffs > 0, HALVED, cause)
        has_restarted = jnp.isfinite(maintained.value_left)
        cause = jnp.where(has_restarted & is_low, RESTARTED, cause)
        cause = jnp.where(annealing.log_share < 0.0, ANNEALED, cause)
    cause = jnp.where(statistics.request.probe == PROBE_WARM_UP, RISING, cause)
    return jnp.where(statistics.request.probe > 0, TRIED, cause).astype(jnp.int32)


def _annealing(state: ScaleByControllerState) -> Any:
    """What follows the search remembers, where the rule is that of ``autotune``."""
    ((name, words),) = state.controller_memory.items()
    matched = re.fullmatch(r"tuned(?:-interpolated)?-(\d+)-v\d+", name)
    if matched is None:
        return None
    memory = _tuned_memory(int(matched[1]))
    if words.shape[-1] != sum(
        math.prod(leaf.shape) for leaf in jax.tree.leaves(memory)
    ):
        return None
    read = over_leading_axes(partial(unpack, memory), words.ndim - 1)
    return read(words).controller_state.second_state


@cache
def _tuned_memory(window: int) -> Memory:
    """The layout of what ``scale_by_controller`` remembers of autotune's rule."""
    return layout(tuned(), window)
