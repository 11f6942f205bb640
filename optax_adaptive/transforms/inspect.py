"""observe, lr_scale, summary: the controller's state inside any optimizer state."""

import collections
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from optax_adaptive._controller import Array
from optax_adaptive.controllers.maintain import SETTINGS as MAINTAIN
from optax_adaptive.signals import window_statistics
from optax_adaptive.state.controller_state import (
    ScaleByControllerState,
    is_controller_state,
)
from optax_adaptive.state.packing import overwrite, unpack
from optax_adaptive.state.snapshots import SnapshotState
from optax_adaptive.state.tag import unwrap_any
from optax_adaptive.state.trees import over_leading_axes
from optax_adaptive.state.validation import check_real
from optax_adaptive.transforms._rollback_plan import LAYOUT as ROLLBACK
from optax_adaptive.transforms.rollback import RollbackState

# Values by which it is known whether most are finite.
FEWEST = 100


def _find(opt_state: Any) -> dict[str, ScaleByControllerState]:
    """Every controller's state by its path, which says where it lies."""
    found = {
        path: _bare(node) for path, node in _nodes(opt_state, ScaleByControllerState)
    }
    if not found:
        raise ValueError(
            "no controller in this optimizer state: chain scale_by_controller(...) "
            "after the optimizer, and pass the state that tx.init or tx.update gave"
            f" (this is a {type(opt_state).__name__})"
        )
    return found


def _bare(state: ScaleByControllerState) -> ScaleByControllerState:
    """Without what wraps its arrays, as ``nnx.Optimizer`` does."""
    lr_scale, words = jax.tree.leaves(state)
    (name,) = state.controller_memory
    return ScaleByControllerState(lr_scale, {name: words})


def _read_statistics(
    state: ScaleByControllerState,
) -> window_statistics.WindowStatistics:
    unpack_statistics = partial(unpack, window_statistics.LAYOUT)
    read = over_leading_axes(unpack_statistics, state.lr_scale.ndim)
    return read(unwrap_any(state.controller_memory))


def observe(opt_state: Any, value: Any) -> Any:
    """Hands a validation metric to every controller in ``opt_state``.

    Rules see it at their next decision; with ``feedback="observe"`` it *is* the next
    decision's metric, taken at the next update. :func:`autotune` decides by the
    training loss alone, and a warning says so. Works inside ``jax.jit`` and outside,
    through chain, partition, masked, MultiSteps and other wrappers. A second value
    before the first is used replaces it.

    Args:
      opt_state: The state of an optimizer that contains ``scale_by_controller``.
      value: Scalar of any real dtype, smaller or larger better as the controller's
        ``mode`` says. For a state with leading device or vmap axes, an array of just
        these axes is taken too.

    Returns:
      A new state of the same structure, shapes and dtypes.

    Raises:
      ValueError: If the state holds no controller or ``value`` has another shape.
      TypeError: If ``value`` is not of real numbers.

    Example:
      >>> import jax.numpy as jnp, optax, optax_adaptive
      >>> from optax_adaptive import controllers
      >>> rule = controllers.plateau(factor=0.5, patience=1)
      >>> tx = optax.chain(
      ...     optax.sgd(1.0),
      ...     optax_adaptive.scale_by_controller(rule, feedback="observe"),
      ... )
      >>> grads = jnp.array(1.0)
      >>> state = tx.init(grads)
      >>> for accuracy_loss in (0.3, 0.4):
      ...     state = optax_adaptive.observe(state, accuracy_loss)
      ...     updates, state = tx.update(grads, state)
      >>> float(updates)
      -0.5
    """
    check_real("value", value)
    names = [next(iter(rule.controller_memory)) for rule in _find(opt_state).values()]
    if all(name.startswith("tuned") for name in names):
        warnings.warn(
            "autotune decides by the training loss alone: what observe() is given "
            "changes nothing",
            stacklevel=2,
        )

    def deposit(node):
        if not is_controller_state(node):
            return node
        state = _bare(node)
        shape = state.lr_scale.shape
        if jnp.shape(value) not in ((), shape):
            raise ValueError(
                f"the observed value must be a scalar, but its shape is "
                f"{jnp.shape(value)}; average it first"
            )
        statistics = _read_statistics(state)._replace(
            validation=jnp.broadcast_to(window_statistics.as_float32(value), shape),
            is_validated=jnp.ones(shape, jnp.bool_),
        )
        lay = over_leading_axes(overwrite, state.lr_scale.ndim)
        words = lay(unwrap_any(state.controller_memory), statistics)
        return jax.tree.unflatten(jax.tree.structure(node), (state.lr_scale, words))

    return jax.tree.map(deposit, opt_state, is_leaf=_is_leaf(ScaleByControllerState))


def lr_scale(opt_state: Any) -> Array:
    """Reads the factor in force.

    Args:
      opt_state: The state of an optimizer with one ``scale_by_controller`` in it, as
        :func:`autotune` has.

    Returns:
      float32 of shape ``()``: what that multiplied the last update by. After blow-ups
      :func:`with_rollback` has multiplied it once more, by its ``backoff`` for each of
      the ``rollbacks`` of :func:`summary`.

    Raises:
      ValueError: If there is no controller in the state, or more than one.

    Example:
      >>> import optax_adaptive
      >>> tx = optax_adaptive.scale_by_controller(optax_adaptive.controllers.constant())
      >>> float(optax_adaptive.lr_scale(tx.init(None)))
      1.0
    """
    found = _find(opt_state)
    if len(found) > 1:
        raise ValueError(
            f"{len(found)} controllers in this optimizer state, at {sorted(found)}; "
            "summary(opt_state) gives the factor of each"
        )
    return next(iter(found.values())).lr_scale


def summary(opt_state: Any) -> dict[str, Array]:
    """The handful of numbers that a log wants, still on the device.

    Args:
      opt_state: The state of an optimizer that contains ``scale_by_controller``,
        :func:`autotune` or :func:`with_rollback`.

    Returns:
      Arrays of shape ``()`` by name. Of each controller ``lr_scale`` (float32),
      ``last_value`` and ``best_value`` (float32: window means as they were handed in;
      0 and ±inf before the first), ``windows`` (int32: window means so far),
      ``nonfinite_values`` (int32: values skipped), ``phase`` (int32: of a search that
      it opens with, 0 calibrates, 1 tests a range of rates, 2 compares candidates; 3
      without or after a search), ``found_scale`` (float32: the factor that the search
      has found; 0 before, and without one) and ``is_stuck`` (bool: the factor is a
      thousandth of that, the lowest that :func:`autotune` goes to, or most values of
      100 and more were not finite, so that next to nothing is learned); of
      :func:`with_rollback` ``rollbacks`` (int32: returns to the copy after spikes so
      far) and ``is_waiting`` (bool: after one, updates are skipped until a loss is
      normal). A name that several states have is preceded by where each lies, as in
      ``"1/lr_scale"``.

    Raises:
      ValueError: If there is none of these in the state.

    Example:
      >>> import optax_adaptive
      >>> tx = optax_adaptive.scale_by_controller(optax_adaptive.controllers.constant())
      >>> sorted(optax_adaptive.summary(tx.init(None)))[:5]
      ['best_value', 'found_scale', 'is_stuck', 'last_value', 'lr_scale']
    """
    found = [
        (path, name, number)
        for kind, read in _NUMBERS.items()
        for path, node in _nodes(opt_state, kind)
        for name, number in read(node).items()
    ]
    if not found:
        _find(opt_state)  # complain
    names = collections.Counter(name for _, name, _ in found)
    return {
        f"{path}/{name}" if names[name] > 1 else name: number
        for path, name, number in found
    }


def _is_leaf(kind: type) -> Callable[[Any], bool]:
    """Stops at states of a kind, and at copies: what is in those decides nothing."""
    return lambda node: isinstance(node, (kind, SnapshotState))


def _nodes(opt_state: Any, kind: type) -> list[tuple[str, Any]]:
    """Every state of a kind, by its path."""
    nodes, _ = jax.tree_util.tree_flatten_with_path(opt_state, is_leaf=_is_leaf(kind))
    return [
        (jax.tree_util.keystr(path, simple=True, separator="/"), node)
        for path, node in nodes
        if isinstance(node, kind)
    ]


def _of_controller(state: ScaleByControllerState) -> dict[str, Array]:
    state = _bare(state)
    statistics = _read_statistics(state)
    probe = statistics.request.probe
    return {
        "lr_scale": state.lr_scale,
        "last_value": statistics.last,
        "best_value": statistics.best,
        "windows": statistics.windows,
        "nonfinite_values": statistics.nonfinite,
        "phase": jnp.where(probe > 0, jnp.minimum(probe - 1, 2), 3),
        "found_scale": statistics.found_scale,
        "is_stuck": (statistics.found_scale > 0.0)
        & (state.lr_scale <= 1.01 * MAINTAIN.floor * statistics.found_scale)
        | _is_mostly_nonfinite(statistics),
    }


def _is_mostly_nonfinite(statistics: window_statistics.WindowStatistics) -> Array:
    """As where a loss always overflows: a search then never ends."""
    is_most = statistics.nonfinite > statistics.step // 2
    return is_most & (statistics.step >= FEWEST)


def _of_snapshot(state: SnapshotState) -> dict[str, Array]:
    (rollbacks,) = jax.tree.leaves(state.rollbacks)
    return {"rollbacks": rollbacks}


def _of_rollback(state: RollbackState) -> dict[str, Array]:
    (words,) = jax.tree.leaves(state.rollback_memory)
    read = over_leading_axes(partial(unpack, ROLLBACK), words.ndim - 1)
    return {"is_waiting": read(words).is_waiting}


_NUMBERS: dict[type, Callable[[Any], dict[str, Array]]] = {
    ScaleByControllerState: _of_controller,
    SnapshotState: _of_snapshot,
    RollbackState: _of_rollback,
}
