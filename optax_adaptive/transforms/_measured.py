"""What the wrappers hand down to rules, as the keyword ``measured`` of ``update``."""

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import optax

from optax_adaptive._controller import Array, Controller
from optax_adaptive.state.trees import nodes_of


class Measured(NamedTuple):
    """What wrappers measure; a field is None without the wrapper that measures it."""

    # Of with_averaging:
    averaging_gap: Array | None = None  # shape=(), dtype=float32
    has_gap: Array | None = None  # shape=(), dtype=bool: was it measured at this step?
    average: optax.Params | None = None  # for with_rollback, which passes it to no one
    displacement: Array | None = None  # shape=(), dtype=float32: if calibrating; or 0
    # Of with_rollback:
    value: Array | None = None  # shape=(), dtype=float32: without its spikes
    is_new: Array | None = None  # shape=(), dtype=bool: is it of params that count?
    return_slope: Array | None = None  # shape=(), dtype=float32
    gradient_size: Array | None = None  # shape=(), dtype=float32
    # Of autotune: least and most of the optimizer's; 0 if not known.
    first_update_sizes: Array | None = None  # shape=(2,), dtype=float32

    def wrappers(self) -> tuple[str, ...]:
        """The wrappers that there are."""
        found = {
            "with_averaging": self.averaging_gap is not None,
            "with_rollback": self.return_slope is not None,
        }
        return tuple(name for name, is_there in found.items() if is_there)


def check_needs(controller: Controller, measured: Measured) -> None:
    """Raises ValueError, with the right composition, if a wrapper is missing."""
    missing = [name for name in controller.needs if name not in measured.wrappers()]
    if not missing:
        return
    chain = "optax.chain(optimizer, scale_by_controller(rule))"
    for name in ("with_rollback", "with_averaging"):
        chain = f"{name}({chain})" if name in controller.needs else chain
    raise ValueError(
        f"the rule {controller.name!r} does not work without {' and '.join(missing)} "
        f"around it: compose it, in this order, as {chain}. The rules `maintain` and "
        "`tuned` back off by themselves: use with_rollback(..., backoff=1.0) for them"
    )


def check_no_sam(state: optax.OptState) -> None:
    """Raises ValueError if ``state`` holds that of SAM, which takes no keyword."""
    if nodes_of(state, optax.contrib.SAMState):
        raise ValueError(
            "optax.contrib.sam cannot be inside autotune, with_rollback or "
            "with_averaging: it takes no `value`, and its updates alternate between "
            "params and points near them. Give them the optimizer alone, and in your "
            "step take loss and gradients at such a point, "
            "optax.tree.add_scale(params, rho / optax.tree.norm(grads), grads)"
        )


def handed_down(extra_args: dict[str, Any], measured: Measured) -> dict[str, Any]:
    """The keywords for the ``update`` of the transformation inside."""
    extra_args = extra_args | {"measured": measured}
    if "value_fn" in extra_args:
        extra_args["value_fn"] = _tolerant(extra_args["value_fn"])
    return extra_args


def _tolerant(value_fn: Callable[..., Any]) -> Callable[..., Any]:
    """``value_fn`` that accepts ``measured``: a line search passes it every keyword."""
    signature = inspect.signature(value_fn)
    if "measured" in signature.parameters:
        return value_fn

    def without_measured(*args, measured=None, **kwargs):
        del measured
        return value_fn(*args, **kwargs)

    keyword = inspect.Parameter("measured", inspect.Parameter.KEYWORD_ONLY)
    parameters = [*signature.parameters.values(), keyword]
    parameters.sort(key=lambda parameter: parameter.kind)  # **kwargs come last
    without_measured.__signature__ = signature.replace(parameters=parameters)  # pyright: ignore
    return without_measured
