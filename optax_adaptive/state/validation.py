"""Checks of arguments, states and rules; of hyperparameters only where concrete."""

import math
from typing import Any

import jax
import numpy as np
import optax
from jax.core import Tracer

from optax_adaptive._controller import Controller

_LARGEST_COUNT = np.iinfo(np.int32).max  # counts of steps are int32


def is_concrete(value: Any) -> bool:
    """Whether ``value`` can be compared now: not a tracer, as under vmap or jit."""
    return not isinstance(value, Tracer)


def check_range(
    name: str,
    value: Any,
    low: Any,
    high: Any = math.inf,
    *,
    open_low: bool = False,
    open_high: bool = False,
) -> None:
    """Raises ValueError, naming argument, value and range, if ``value`` is outside."""
    if not is_concrete(value):
        return
    if not _is_number(value):
        raise ValueError(f"{name} must be one real number, but it is {value!r}")
    open_high |= high == math.inf
    above = value > low if open_low else value >= low
    below = value < high if open_high else value <= high
    if not (above and below):  # NaN fails both
        left = "(" if open_low else "["
        right = ")" if open_high else "]"
        raise ValueError(
            f"{name} must be in {left}{low}, {high}{right}, but it is {value!r}"
        )


def _is_number(value: Any) -> bool:
    """Whether ``value`` is one real number, of any type."""
    array = np.asarray(value)
    return not array.ndim and array.dtype.kind in "iufV"  # V: bfloat16 and its like


def check_real(name: str, value: Any) -> None:
    """Raises TypeError unless ``value``, traced or not, is of real numbers."""
    if value is None:
        raise TypeError(f"`{name}` must be real, but it is None")
    if not jax.tree_util.all_leaves([value]):
        raise TypeError(
            f"`{name}` must be one number, but it is a {type(value).__name__}; of "
            "(loss, aux) pass the loss"
        )
    dtype = value.dtype if hasattr(value, "dtype") else np.asarray(value).dtype
    if getattr(dtype, "kind", "O") not in "biufV":  # those of random keys have none
        raise TypeError(f"`{name}` must be real, but it is {value!r}")


def check_count(name: str, value: Any, low: int = 1) -> Any:
    """The ``value`` as an int, or as it is if traced; raises if it is below ``low``."""
    if not is_concrete(value):
        return value
    if not (_is_number(value) and float(value).is_integer()):
        raise ValueError(f"{name} must be an integer, but it is {value!r}")
    check_range(name, value, low)
    if value > _LARGEST_COUNT:
        raise ValueError(f"{name} must be below 2**31, but it is {value!r}")
    return int(value)


def check_choice(name: str, value: Any, choices: tuple[str, ...]) -> None:
    """Raises ValueError unless ``value`` is one of ``choices``."""
    if value not in choices:
        raise ValueError(f"{name} must be one of {choices}, but it is {value!r}")


def check_array(name: str, value: Any, shape: tuple[int, ...]) -> None:
    """Raises ValueError unless ``value`` has this shape, and is finite."""
    if np.shape(value) != shape:
        raise ValueError(
            f"{name} must have the shape {shape}, but it has {np.shape(value)}"
        )
    if is_concrete(value) and not np.all(np.isfinite(value)):
        raise ValueError(f"{name} must be finite, but it is {value}")


def check_settings(settings: Any, kind: type) -> None:
    """Raises TypeError unless ``settings`` are of this kind."""
    if not isinstance(settings, kind):
        raise TypeError(
            f"settings must be a {kind.__name__}, but they are a "
            f"{type(settings).__name__}"
        )


def check_flag(name: str, value: Any) -> None:
    """Raises ValueError unless ``value`` is True or False."""
    if not isinstance(value, (bool, np.bool_)):
        raise ValueError(f"{name} must be True or False, but it is {value!r}")


def check_optimizer(optimizer: Any) -> None:
    """Raises TypeError unless ``optimizer`` is a gradient transformation."""
    if not isinstance(optimizer, optax.GradientTransformation):
        hint = "call its factory first, as in optax.adam(1e-3)"
        if isinstance(optimizer, optax.MultiSteps):
            hint = "put optax.MultiSteps around, not inside"
        if isinstance(optimizer, Controller):
            hint = "chain it behind an optimizer, by scale_by_controller(rule)"
        raise TypeError(
            f"optimizer must be a gradient transformation, but it is {optimizer!r}; "
            + hint
        )


def check_leaves(params: Any) -> None:
    """Raises TypeError, naming the leaf, unless all ``params`` are arrays or shapes."""
    for path, leaf in jax.tree.leaves_with_path(params):
        if not hasattr(leaf, "dtype"):
            raise TypeError(
                f"params must be arrays, but the leaf at "
                f"{jax.tree_util.keystr(path, simple=True, separator='/')!r} is "
                f"{leaf!r}: pass only what is trained, in Equinox by "
                "eqx.filter(model, eqx.is_inexact_array)"
            )


def check_params(updates: Any, params: Any) -> None:
    """Raises ValueError unless params have the structure and shapes of ``updates``.

    Gradients with a leading axis would widen the parameters.
    """
    if params is None:
        raise ValueError("update() needs the argument `params`")
    shapes = [list(map(np.shape, jax.tree.leaves(tree))) for tree in (updates, params)]
    if len(shapes[0]) != len(shapes[1]):
        raise ValueError(
            f"updates and params must have the same leaves, but those have "
            f"{len(shapes[0])} and these {len(shapes[1])}: remove what is not trained "
            "from both, by optax.partition, or in Equinox by "
            "eqx.filter(model, eqx.is_inexact_array)"
        )
    try:
        jax.tree.structure(params).flatten_up_to(updates)
    except ValueError:
        found, wanted = _structures(updates, params)
        raise ValueError(
            f"updates and params must have the same structure, but those have {found}, "
            f"and these {wanted}: convert one of them"
        ) from None
    for shape, wanted in zip(*shapes, strict=True):
        if shape != wanted:
            raise ValueError(
                f"updates must have the shapes of params, but one of shape {shape} is "
                f"for params of shape {wanted}: average gradients over examples and "
                "devices first"
            )


NO_STATE = (
    "If a checkpoint was restored without a target, use "
    "integrations.graft(tx.init(params), restored).tree; if the run had no such state, "
    "begin with tx.init(params)"
)


def check_one(name: str, count: int) -> None:
    """Raises ValueError unless ``count``, the number of states found, is 1."""
    if count == 1:
        return
    several = (
        "Hand in the part of the state that holds the one that you mean. To train "
        "several groups, put one autotune around optax.partition"
    )
    raise ValueError(
        f"expected one {name} in this optimizer state, found {count}. "
        + (several if count else NO_STATE)
    )


def check_state(name: str, state: Any, kind: type) -> None:
    """Raises ValueError unless ``state`` is of the type that ``name`` gives."""
    if isinstance(state, kind):
        return
    found = ", ".join(_types(state)) or f"a {type(state).__name__}"
    raise ValueError(
        f"the state must be that of {name}, as init and update return it, a "
        f"{kind.__name__}, but it is {found}. {NO_STATE}"
    )


def check_same(name: str, tree: Any, wanted: Any) -> None:
    """Raises ValueError, saying what differs, unless structure and shapes are equal.

    Dtypes may differ: optimizers change those of their states.
    """
    shapes = [list(map(np.shape, jax.tree.leaves(one))) for one in (tree, wanted)]
    is_same = jax.tree.structure(tree) == jax.tree.structure(wanted)
    if is_same and shapes[0] == shapes[1]:
        return
    there, here = _paths(tree), _paths(wanted)
    only_here = [path for path in here if path not in there] or _types(wanted)
    only_there = [path for path in there if path not in here] or _types(tree)
    if only_here == only_there:
        only_there, only_here = ([part] for part in _structures(tree, wanted))
    raise ValueError(
        f"{name} is of another run: it has {_first_of(only_there)}, and this one has "
        f"{_first_of(only_here)}. Go on with the optimizer and the params that the run "
        "began with, or begin anew with init"
    )


def _paths(tree: Any) -> list[str]:
    """Where each leaf lies, and its shape."""
    return [
        f"{jax.tree_util.keystr(path, simple=True, separator='/')} of shape "
        f"{np.shape(leaf)}"
        for path, leaf in jax.tree.leaves_with_path(tree)
    ]


def _types(state: Any) -> list[str]:
    """Names of the types of the states in ``state``."""
    names = []

    def visit(node):
        if hasattr(node, "_fields"):
            names.append(type(node).__name__)
        return False

    jax.tree.leaves(state, is_leaf=visit)
    return names


def _structures(tree: Any, wanted: Any) -> list[str]:
    """Those of the first parts that are of different types, or not alike, cut short."""

    def parts(node):
        return jax.tree.leaves(node, is_leaf=lambda part: part is not node)

    if type(tree) is type(wanted):
        for one, other in zip(parts(tree), parts(wanted), strict=False):
            if jax.tree.structure(one) != jax.tree.structure(other):
                return _structures(one, other)
    most = 100
    texts = [str(jax.tree.structure(part)) for part in (tree, wanted)]
    return [text[:most] + " ..." * (len(text) > most) for text in texts]


def _first_of(names: list[str]) -> str:
    most = 3
    return ", ".join(names[:most] or ["nothing"]) + " ..." * (len(names) > most)


def check_controller(name: str, value: Any) -> None:
    """Raises TypeError unless ``value`` is a rule."""
    if not isinstance(value, Controller):
        raise TypeError(
            f"{name} must be a Controller, but it is {value!r}; call the rule's "
            "factory first, as in controllers.plateau()"
        )


def check_answer(name: str, answer: Any) -> tuple[Any, Any]:
    """What a rule's update returned; raises unless it is a log factor and a state."""
    if type(answer) is not tuple or len(answer) != 2:
        raise TypeError(
            f"the update of the rule {name!r} must return two things, the new log "
            f"factor and its state, but it returned {answer!r}"
        )
    log_scale, state = answer
    if log_scale is None or np.shape(log_scale):
        raise TypeError(
            f"the update of the rule {name!r} must return the new log factor, of shape "
            f"(), and its state, but the first is {log_scale!r}"
        )
    if is_concrete(log_scale) and not np.isfinite(log_scale):
        raise ValueError(
            f"the update of the rule {name!r} must return a finite log factor, but it "
            f"is {log_scale}"
        )
    return log_scale, state
