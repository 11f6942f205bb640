"""in_words: the phase of a run, and what made the learning rate in force."""

import math
import re
from collections.abc import Mapping
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from optax_adaptive import controllers
from optax_adaptive._controller import PROBE_WARM_UP, Array
from optax_adaptive.controllers.maintain.settings import CHANGES, MaintainState
from optax_adaptive.signals import window_statistics
from optax_adaptive.state.controller_state import ScaleByControllerState
from optax_adaptive.state.packing import unpack
from optax_adaptive.state.trees import over_leading_axes
from optax_adaptive.transforms._observation import Memory, layout

PHASES = ("calibrate", "range test", "trial", "maintain")
CAUSES = (
    "chosen by the rule",
    "tried by the search",
    "rising to the rate found",
    "found by the search",
    "lowered towards the end",
    "kept since the start",
    *CHANGES[1:],
)
RULE, TRIED, RISING, FOUND, ANNEALED, KEPT = range(6)


def in_words(numbers: Mapping[str, Any]) -> dict[str, str]:
    """Names the phase of a run, and what made the learning rate in force.

    Strings cannot live inside ``jax.jit``: call it outside, on what :func:`summary`
    returned.

    Args:
      numbers: From :func:`summary`.

    Returns:
      For each ``phase`` and ``cause`` in ``numbers``, under the same path:

      * ``phase_name``: ``"calibrate"``, ``"range test"``, ``"trial"``,
        ``"warm-up"`` or ``"maintain"``; ``"rule"`` for rules other than those of
        :func:`autotune` and ``maintain``, except while they search.
      * ``cause_name``, of the newest change: ``"tried by the search"``, ``"rising to
        the rate found"``, ``"found by the search"``, ``"lowered by the rate
        correction"``, ``"raised by the rate correction"``, ``"halved after a
        blow-up"``, ``"raised back since the blow-up"``, ``"lowered by a restart"`` or
        ``"lowered towards the end"``; for ``maintain`` without a search ``"kept since
        the start"``, and for other rules ``"chosen by the rule"``.

    Raises:
      ValueError: If the numbers are those of several runs, as from ``jax.vmap``.
      TypeError: If they are no mapping, as where a state is passed.

    Example:
      >>> import jax.numpy as jnp, optax, optax_adaptive
      >>> state = optax_adaptive.autotune(optax.adam(1e-3)).init(jnp.ones(3))
      >>> optax_adaptive.in_words(optax_adaptive.summary(state))
      {'phase_name': 'calibrate', 'cause_name': 'tried by the search'}
    """
    if not isinstance(numbers, Mapping):
        raise TypeError(
            "in_words takes what summary(opt_state) returned, but it was given a "
            f"{type(numbers).__name__}"
        )
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
        if f"{prefix}cause" not in numbers:
            raise ValueError(
                f"in_words needs {prefix + 'cause'!r} beside {name!r}: pass all "
                "numbers of summary(opt_state)"
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
    remembered = _remembered(state)
    cause = jnp.full_like(statistics.request.probe, RULE)
    if isinstance(remembered, MaintainState):
        cause = _newest_change(remembered, KEPT)
    elif remembered is not None:
        cause = _newest_change(remembered.rule_state, FOUND)
        cause = jnp.where(remembered.log_share < 0.0, ANNEALED, cause)
    cause = jnp.where(statistics.request.probe == PROBE_WARM_UP, RISING, cause)
    return jnp.where(statistics.request.probe > 0, TRIED, cause).astype(jnp.int32)


def _newest_change(maintained: MaintainState, otherwise: int) -> Array:
    changed = maintained.last_change
    return jnp.where(changed > 0, KEPT + changed, otherwise)


def _remembered(state: ScaleByControllerState) -> Any:
    """The state of ``maintain``, alone or after a search; None for other rules."""
    ((name, words),) = state.controller_memory.items()
    matched = re.fullmatch(r"(tuned|maintain)(?:-interpolated)?-(\d+)-v\d+", name)
    if matched is None:
        return None
    memory = _memory(matched[1], int(matched[2]))
    if words.shape[-1] != sum(
        math.prod(leaf.shape) for leaf in jax.tree.leaves(memory)
    ):
        return None
    read = over_leading_axes(partial(unpack, memory), words.ndim - 1)
    own = read(words).controller_state
    return own.second_state if matched[1] == "tuned" else own


@cache
def _memory(name: str, window: int) -> Memory:
    """The layout of what ``scale_by_controller`` remembers of one of these rules."""
    return layout(controllers.REGISTRY[name](), window)
