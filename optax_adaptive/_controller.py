"""The contract that every learning-rate rule obeys."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

Array = jax.Array
ControllerState = Any  # A pytree of arrays with fixed shapes and dtypes.
ROUNDING = 1e-4  # error of a log factor after a round trip through exp and log

# Values of ``Request.probe``, beside 0.
PROBE_WARM_UP, PROBE_CALIBRATION, PROBE_RANGE_TEST, PROBE_TRIAL = -1, 1, 2, 3


class Observation(NamedTuple):
    """What a rule sees when it decides, once per window of metric values.

    Smaller is always better here: with ``mode="max"`` the metric arrives negated.
    A window that ends after ``accumulation_size`` consecutive non-finite values, or
    because :func:`with_rollback` blames the rate, arrives as ``value = inf``; it never
    enters ``history``, whose entries are all finite.

    ``update_size`` is the largest |entry| in one leaf of the optimizer's newest update,
    before the factor is applied: a schedule in the optimizer shows in it. Within
    :func:`with_rollback`, ``gradient_size`` is the same for a sample of the gradients.

    ``averaging_gap`` is (params - average) · gradient: to first order, the loss of the
    newest parameters minus that of their average, the excess loss that noise induces.
    It is measured within :func:`with_averaging` if the metric is the loss itself. With
    interpolation it is the geometric mean of the gaps of params and of the point that
    the optimizer moves. ``return_slope`` is (copy - average) · gradient, the slope of
    the loss from the average towards the copy that :func:`with_rollback` keeps: below
    0, the loss decreases towards the copy. ``displacement`` is measured while a rule
    calibrates (its ``probe`` is 1): how far the last update has moved the parameters,
    |update| over 1 + |params|.
    """

    step: Array  # shape=(), dtype=int32: optimizer steps so far
    value: Array  # shape=(), dtype=float32: newest window mean
    history: Array  # shape=(n,), dtype=float32: oldest first, zero-padded on the left
    mask: Array  # shape=(n,), dtype=bool: which entries of history are real
    standard_error: Array  # shape=(n,), dtype=float32: of each window mean
    # shape=(), dtype=float32: newest value given to observe(); 0 unless is_validated
    validation: Array
    is_validated: Array  # shape=(), dtype=bool: is it new since the last decision?
    log_scale: Array  # shape=(), dtype=float32: log of the factor in force
    update_size: Array  # shape=(), dtype=float32: largest |entry|; 0 if unknown
    gradient_size: Array  # shape=(), dtype=float32: the same for gradients; or 0
    displacement: Array  # shape=(), dtype=float32: |update| / (1 + |params|); or 0
    averaging_gap: Array  # shape=(), dtype=float32: mean over the window; or 0
    has_averaging_gap: Array  # shape=(), dtype=bool: was it measured in this window?
    return_slope: Array  # shape=(), dtype=float32: until ``keep_until``; then 0
    is_rolled_back: Array  # shape=(), dtype=bool: was there a rollback in this window?


class Request(NamedTuple):
    """What a rule asks of the wrappers around it; the default asks for nothing.

    ``restore`` and ``snapshot`` are events: each happens once, after the decision that
    asks for it, so the next decision must clear them; no copy is taken if the next
    update is a spike. The other fields apply until the next decision.

    Example:
      >>> import jax.numpy as jnp, optax_adaptive
      >>> longer = optax_adaptive.Request(half_life=jnp.float32(2.0))
    """

    # shape=(), dtype=int32: above 0 while parameters are temporary: 1 while the rule
    # calibrates, and displacement is measured; 2 in a range test, and the averaging gap
    # is measured from the parameters before the test; 3 in a trial run, whose average
    # is followed. Otherwise 0, or -1 while the rate warms up to the one found
    probe: Array | np.int32 = np.int32(0)
    # shape=(), dtype=bool: return to the copy; not counted as a spike
    restore: Array | np.bool_ = np.False_
    # shape=(), dtype=bool: take a copy before the next update
    snapshot: Array | np.bool_ = np.False_
    # shape=(), dtype=int32: update before which no copy is due
    keep_until: Array | np.int32 = np.int32(0)
    # shape=(), dtype=float32: factor on the average's half-life
    half_life: Array | np.float32 = np.float32(1.0)
    # shape=(), dtype=bool: the average lags, and eval_params gives the parameters
    average_lags: Array | np.bool_ = np.False_
    # shape=(), dtype=int32: values in the next window; 0 for scale_by_controller's own
    accumulation_size: Array | np.int32 = np.int32(0)
    # shape=(), dtype=float32: with_rollback takes a higher value for a bad batch and
    # skips its update, also while parameters are temporary
    skip_above: Array | np.float32 = np.float32(np.inf)
    # shape=(), dtype=float32: with_rollback takes a rise above the usual loss by less
    # than this part of the decrease so far for a spike only if it lasts for 100 values
    small_rise: Array | np.float32 = np.float32(0.0)


class Found(NamedTuple):
    """What a search hands over to the rule that follows it."""

    log_scale: Array  # shape=(), dtype=float32: of the rate found
    # shape=(), dtype=float32: value at the first parameters; inf if not measured
    first_value: Array
    # shape=(), dtype=float32: of single values there; inf if not measured
    standard_deviation: Array
    has_noise: Array  # shape=(), dtype=bool: do losses differ from batch to batch?
    # shape=(), dtype=float32: size of the gradients handed in, over that of the value's
    # own gradients; not 1 where, say, the former are of a sum and the value is a mean
    gradient_factor: Array | np.float32 = np.float32(1.0)


def nothing_found() -> Found:
    """The :class:`Found` of a rule that begins without a search."""
    inf = jnp.full((), jnp.inf, jnp.float32)
    one = jnp.ones((), jnp.float32)
    return Found(inf, inf, inf, jnp.ones((), jnp.bool_), one)


def nothing() -> Request:
    """The request that asks for nothing."""
    return Request(*map(jnp.asarray, Request()))


def merged(*requests: Request) -> Request:
    """What several rules ask for together: all that any of them asks for.

    Where they differ, the longest half-life, the smallest window and the lowest
    ``skip_above`` count, and a ``probe`` of -1 takes precedence over 0. For every other
    field the largest value counts: a rule that asks for nothing has 0 there.
    """
    if len(requests) == 1:
        return requests[0]
    stacked = jax.tree.map(lambda *fields: jnp.stack(fields), *requests)
    largest = jax.tree.map(lambda fields: fields.max(0), stacked)
    sizes = stacked.accumulation_size
    least = jnp.where(sizes > 0, sizes, largest.accumulation_size).min(0)
    probe = jnp.where(largest.probe > 0, largest.probe, stacked.probe.min(0))
    return largest._replace(
        probe=probe, accumulation_size=least, skip_above=stacked.skip_above.min(0)
    )


def no_request(state: ControllerState) -> Request:
    """The request of a rule that leaves the wrappers alone."""
    del state
    return nothing()


def keep_state(state: ControllerState, found: Found) -> ControllerState:
    """The default of ``begin``: only ``observation.log_scale`` matters."""
    del found
    return state


class Controller(NamedTuple):
    """A learning-rate rule: a pair of pure functions, like an optax transformation.

    A rule never sees parameters, gradients, the clock or the disk. ``update`` returns
    the *new* log factor, absolute and not additive: a rule that keeps the rate returns
    ``observation.log_scale``.

    Attributes:
      init: Returns the first state: a pytree of arrays of fixed shape and dtype.
      update: Maps an :class:`Observation` and a state to the new log factor, float32
        of shape ``()``, and the new state.
      initial_log_scale: Log of the factor in force before the first decision. A rule
        that searches upwards starts far below 0.
      request: Maps the state to the :class:`Request` to the wrappers around the rule.
        It is read after each decision.
      accumulation_size: Values in a window, unless the user or the request names
        another number.
      begin: Maps the first state, and what a search has :class:`Found`, to a state that
        continues from the rate found (a warm start). :func:`then` calls it for the
        second rule before it first decides. By default it changes nothing:
        ``observation.log_scale`` has the factor.
      name: Name of the rule, in errors and in the optimizer state: a state of another
        name is refused.
      needs: The wrappers without which the rule does not work: ``"with_averaging"``,
        ``"with_rollback"``, or both.
    """

    init: Callable[[], ControllerState]
    update: Callable[[Observation, ControllerState], tuple[Array, ControllerState]]
    initial_log_scale: float | Array = 0.0
    request: Callable[[ControllerState], Request] = no_request
    accumulation_size: int = 20
    begin: Callable[[ControllerState, Found], ControllerState] = keep_state
    name: str = "rule"
    needs: tuple[str, ...] = ()


def checked_request(controller: Controller, state: ControllerState) -> Request:
    """What the rule asks for, as arrays; a TypeError names the rule and the field."""
    request, default = controller.request(state), nothing()
    if not isinstance(request, Request):
        raise TypeError(
            f"the request of the rule {controller.name!r} must be a Request, but it is "
            f"{request!r}"
        )
    fields = {}
    for name, value in request._asdict().items():
        wanted = getattr(default, name).dtype
        dtype = value.dtype if hasattr(value, "dtype") else np.asarray(value).dtype
        # Python's numbers have no dtype of their own.
        is_alike = dtype.kind == wanted.kind if np.isscalar(value) else dtype == wanted
        if np.shape(value) or not is_alike:
            raise TypeError(
                f"the request of the rule {controller.name!r} must have {wanted} of "
                f"shape () for {name}, but it is {dtype} of shape {np.shape(value)}"
            )
        fields[name] = jnp.asarray(value, wanted)
    return Request(**fields)
