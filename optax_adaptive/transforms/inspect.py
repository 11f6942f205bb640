"""lr_scale, summary: the controller's state inside any optimizer state."""

import collections
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax

from optax_adaptive._controller import PROBE_CALIBRATION, Array
from optax_adaptive.controllers.maintain.settings import SETTINGS as MAINTAIN
from optax_adaptive.signals import window_statistics
from optax_adaptive.state.controller_state import ScaleByControllerState
from optax_adaptive.state.packing import unpack
from optax_adaptive.state.snapshots import SnapshotState
from optax_adaptive.state.tag import unwrap_any
from optax_adaptive.state.trees import over_leading_axes
from optax_adaptive.state.validation import NO_STATE
from optax_adaptive.transforms._rollback_memory import LAYOUT as ROLLBACK
from optax_adaptive.transforms.in_words import cause_of
from optax_adaptive.transforms.rollback import RollbackState

# Updates after which a calibration, which takes 12 to 35, counts as stuck, and after
# which it is judged whether most losses are not finite.
ENOUGH = 100


def find(opt_state: Any) -> dict[str, ScaleByControllerState]:
    """Every controller's state by its path, which says where it lies."""
    found = {
        path: bare(node) for path, node in _nodes(opt_state, ScaleByControllerState)
    }
    if not found:
        raise ValueError(
            "no controller in this optimizer state: chain scale_by_controller(...) "
            "after the optimizer, and pass the state that tx.init or tx.update gave"
            f" (this is a {type(opt_state).__name__}). {NO_STATE}"
        )
    return found


def bare(state: ScaleByControllerState) -> ScaleByControllerState:
    """The state without wrappers of its arrays, as ``nnx.Optimizer`` adds."""
    lr_scale, words = jax.tree.leaves(state)
    (name,) = state.controller_memory
    return ScaleByControllerState(lr_scale, {name: words})


def read_statistics(
    state: ScaleByControllerState,
) -> window_statistics.WindowStatistics:
    """The window statistics of a state with or without leading axes."""
    unpack_statistics = partial(unpack, window_statistics.LAYOUT)
    read = over_leading_axes(unpack_statistics, state.lr_scale.ndim)
    return read(unwrap_any(state.controller_memory))


def lr_scale(opt_state: Any) -> Array:
    """Reads the factor in force.

    Args:
      opt_state: The state of an optimizer with one ``scale_by_controller`` in it, as
        :func:`autotune` has.

    Returns:
      float32 of shape ``()``, or the leading axes that ``vmap`` has given the state:
      what the last update was multiplied by. Not included are
      the factors of :func:`with_rollback`, ``backoff`` to the power of
      ``summary["backoffs_in_force"]``, or 0.001 if that is larger, and after a rollback
      a tenth to one over ten updates; and, if :func:`autotune` was resumed with another
      base rate, the first rate over it.

    Raises:
      ValueError: If there is no controller in the state, or more than one.

    Example:
      >>> import optax_adaptive
      >>> tx = optax_adaptive.scale_by_controller(optax_adaptive.controllers.constant())
      >>> float(optax_adaptive.lr_scale(tx.init(None)))
      1.0
    """
    found = find(opt_state)
    if len(found) > 1:
        raise ValueError(
            f"{len(found)} controllers in this optimizer state, at {sorted(found)}; "
            "summary(opt_state) gives the factor of each"
        )
    return next(iter(found.values())).lr_scale


def summary(opt_state: Any) -> dict[str, Array]:
    """The numbers worth logging, still on the device.

    Args:
      opt_state: The state of an optimizer that contains ``scale_by_controller``,
        :func:`autotune` or :func:`with_rollback`.

    Returns:
      Arrays of shape ``()``, or of the leading axes that ``vmap`` has given the state,
      by name. Of each controller:

      * ``lr_scale``, float32: the factor in force;
      * ``last_value`` and ``best_value``, float32: window means as they were handed
        in; 0 before the first;
      * ``windows``, int32: window means so far;
      * ``nonfinite_values``, int32: how many values were not finite, or had gradients
        that :func:`with_rollback` found not to be;
      * ``nonfinite_answers``, int32: how often the rule returned a factor that was not
        finite, in place of which the one in force was kept;
      * ``phase``, int32: of a search that comes first, 0 calibrates, 1 tests a range of
        rates, 2 is in a trial run; 3 from its warm-up on, or without a search;
      * ``cause``, int32: what made the factor in force, for :func:`in_words`;
      * ``found_scale``, float32: the factor that the search has found; 0 until its
        warm-up has ended, and without a search;
      * ``is_stuck``, bool: the factor is a thousandth of the one found (of the first,
        without a search), the lowest that ``maintain`` goes to by default; or most of
        at least 100 values were not finite; or the search has calibrated for 100
        updates without moving anything, because gradients or the optimizer's own rate
        are 0, or nothing is trained.

      Of :func:`with_rollback`:

      * ``rollbacks``, int32: returns to the copy after spikes so far;
      * ``backoffs``, int32: how many of those were the rate's fault;
      * ``backoffs_in_force``, int32: how many of these still lower updates;
      * ``is_waiting``, bool: after a rollback, updates are skipped until it is known
        whether the batches or the rate were to blame.

      And ``learning_rate`` (float32), where there is one controller, and one optimizer
      made by ``optax.inject_hyperparams``: the optimizer's rate times ``lr_scale``. As
      in :func:`lr_scale`, the ``backoff`` of :func:`with_rollback` is not included, nor
      what undoes a change of the base rate within a run.
      Other optimizers do not keep their rate in the state: multiply it by ``lr_scale``.

      A name that several states have is preceded by the path of each, as in
      ``"1/lr_scale"``.

    Raises:
      ValueError: If there is none of these in the state.

    Example:
      >>> import optax_adaptive
      >>> tx = optax_adaptive.scale_by_controller(optax_adaptive.controllers.constant())
      >>> sorted(optax_adaptive.summary(tx.init(None)))[:5]
      ['best_value', 'cause', 'found_scale', 'is_stuck', 'last_value']
    """
    found = [
        (path, name, number)
        for kind, read in _NUMBERS.items()
        for path, node in _nodes(opt_state, kind)
        for name, number in read(node).items()
    ]
    if not found:
        find(opt_state)  # raises
    names = collections.Counter(name for _, name, _ in found)
    return _learning_rate(opt_state) | {
        f"{path}/{name}" if names[name] > 1 else name: number
        for path, name, number in found
    }


def is_leaf(kind: type) -> Callable[[Any], bool]:
    """Stops at states of a kind, and at copies, whose contents decide nothing."""
    return lambda node: isinstance(node, (kind, SnapshotState))


def _nodes(opt_state: Any, kind: type) -> list[tuple[str, Any]]:
    """Every state of a kind, by its path."""
    nodes, _ = jax.tree_util.tree_flatten_with_path(opt_state, is_leaf=is_leaf(kind))
    return [
        (jax.tree_util.keystr(path, simple=True, separator="/"), node)
        for path, node in nodes
        if isinstance(node, kind)
    ]


def _of_controller(state: ScaleByControllerState) -> dict[str, Array]:
    state = bare(state)
    statistics = read_statistics(state)
    probe = statistics.request.probe
    (name,) = state.controller_memory
    # Without a search, ``maintain`` begins at the base rate.
    unknown = 1.0 if name.startswith("maintain-") else 0.0
    found = jnp.where(statistics.found_scale > 0.0, statistics.found_scale, unknown)
    is_low = (found > 0.0) & (state.lr_scale <= 1.01 * MAINTAIN.floor * found)
    is_low &= _maintains(name)  # other rules may come down as far on purpose
    return {
        "lr_scale": state.lr_scale,
        "last_value": statistics.last,
        # Strict JSON has no inf.
        "best_value": jnp.where(statistics.windows > 0, statistics.best, 0.0),
        "windows": statistics.windows,
        "nonfinite_values": statistics.nonfinite,
        "nonfinite_answers": statistics.nonfinite_answers,
        "phase": jnp.where(probe > 0, jnp.minimum(probe - 1, 2), 3),
        "cause": cause_of(state, statistics),
        "found_scale": statistics.found_scale,
        "is_stuck": is_low
        | _is_mostly_nonfinite(statistics)
        | ((probe == PROBE_CALIBRATION) & (statistics.step >= ENOUGH)),
    }


def _maintains(name: str) -> bool:
    """Whether the rule of a state is, or ends with, ``maintain``."""
    return not {"tuned", "maintain"}.isdisjoint(name.split("-"))


def _is_mostly_nonfinite(statistics: window_statistics.WindowStatistics) -> Array:
    """Whether most values are not finite, as by overflow: then no search ends."""
    is_most = statistics.nonfinite > statistics.step // 2
    return is_most & (statistics.step >= ENOUGH)


def _of_snapshot(state: SnapshotState) -> dict[str, Array]:
    (rollbacks,) = jax.tree.leaves(state.rollbacks)
    return {"rollbacks": rollbacks}


def _of_rollback(state: RollbackState) -> dict[str, Array]:
    words = jax.tree.leaves(unwrap_any(state.rollback_memory))[0]
    read = over_leading_axes(partial(unpack, ROLLBACK), words.ndim - 1)
    memory = read(words)
    return {
        "backoffs": memory.backoffs,
        "backoffs_in_force": memory.in_force,
        "is_waiting": memory.is_waiting,
    }


_NUMBERS: dict[type, Callable[[Any], dict[str, Array]]] = {
    ScaleByControllerState: _of_controller,
    SnapshotState: _of_snapshot,
    RollbackState: _of_rollback,
}


def _learning_rate(opt_state: Any) -> dict[str, Array]:
    """The rate in force, where the state says what the optimizer's own is."""
    scaling = _nodes(opt_state, ScaleByControllerState)
    injected = [
        node
        for _, node in _nodes(opt_state, optax.InjectStatefulHyperparamsState)
        if "learning_rate" in node.hyperparams
    ]
    if len(scaling) != 1 or len(injected) != 1:
        return {}
    (rate,) = jax.tree.leaves(injected[0].hyperparams["learning_rate"])
    # The factor of integrations.as_schedule is in the rate already.
    is_within = bool(_nodes(injected[0].hyperparams_states, ScaleByControllerState))
    scale = 1.0 if is_within else bare(scaling[0][1]).lr_scale
    return {"learning_rate": jnp.asarray(rate, jnp.float32) * scale}
