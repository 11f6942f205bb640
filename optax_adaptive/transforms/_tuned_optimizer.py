"""The optimizer inside autotune: what must not be in it, and the rate that it had."""

import warnings

import optax

from optax_adaptive.state import snapshots
from optax_adaptive.state.controller_state import ScaleByControllerState
from optax_adaptive.state.trees import nodes_of
from optax_adaptive.transforms import averaging
from optax_adaptive.transforms._base_rate import first_update_sizes
from optax_adaptive.transforms._measured import Measured

ACCUMULATION = (optax.MultiStepsState, optax.ApplyEvery)
# Kinds of states that autotune does not go well with, and why.
OWN_PARAMS = (
    (optax.contrib.ScheduleFreeState, optax.contrib.MechanicState),
    "keeps parameters in its state, a {}, which the factor that autotune finds does "
    "not reach: give autotune the optimizer inside it, as optax.adamw(1e-3). Instead "
    "of optax.contrib.schedule_free_adamw, use "
    "autotune(optax.adamw(1e-3, b1=0.0), interpolate=True)",
)
OWN_RATE = (
    (
        optax.contrib.ProdigyState,
        optax.contrib.DAdaptAdamWState,
        optax.contrib.DoGState,
        optax.contrib.DoWGState,
        optax.contrib.MomoState,
        optax.contrib.MomoAdamState,
        optax.contrib.COCOBState,
        optax.contrib.ReduceLROnPlateauState,
    ),
    "sets its own rate from what it sees of the run, in a {}, and the rates that the "
    "search of autotune tries disturb that: give autotune the plain optimizer, as "
    "optax.adamw(1e-3), or use yours without autotune",
)


def chain_of_fixed_rate(
    optimizer: optax.GradientTransformationExtraArgs,
    rule: optax.GradientTransformationExtraArgs,
) -> optax.GradientTransformationExtraArgs:
    """``optax.chain`` that tells the rule the sizes of the optimizer's first update."""
    chain = optax.chain(optimizer, rule)

    def update_fn(updates, state, params=None, *, measured=None, **extra_args):
        measured = Measured() if measured is None else measured
        sizes = first_update_sizes(optimizer, params, state[0])
        measured = measured._replace(first_update_sizes=sizes)
        return chain.update(updates, state, params, measured=measured, **extra_args)

    return optax.GradientTransformationExtraArgs(chain.init, update_fn)


def with_warnings(
    tx: optax.GradientTransformationExtraArgs,
) -> optax.GradientTransformationExtraArgs:
    """``tx``, whose ``init`` also warns of what should not be inside."""

    def init_fn(params):
        state = tx.init(params)
        _warn_of_schedules(state)
        _warn_of_kinds(state, *OWN_PARAMS)
        _warn_of_kinds(state, *OWN_RATE)
        return state

    return optax.GradientTransformationExtraArgs(init_fn, tx.update)


def _warn_of_schedules(state: optax.OptState) -> None:
    """Warns of schedules in the optimizer, by the states that count for them."""
    names = set()
    # One after the other: a search does not go on inside a node that it has found.
    if nodes_of(state, optax.ScaleByScheduleState):
        names.add("a factor on the updates")
    for node in nodes_of(state, optax.InjectStatefulHyperparamsState):
        names.update(node.hyperparams_states)
    if names:
        warnings.warn(
            f"the optimizer inside autotune has a schedule, of {', '.join(names)}: "
            "autotune sets the learning rate itself; a schedule multiplies the rate "
            "found, and counts from 0 again after each rollback and each time that the "
            "search restores parameters. Give a constant, as in optax.adamw(1e-3)",
            stacklevel=3,
        )


def _warn_of_kinds(state: optax.OptState, kinds: tuple[type, ...], why: str) -> None:
    """Warns of an optimizer whose state is of one of the kinds."""
    names = {type(node).__name__ for node in nodes_of(state, kinds)}
    if names:
        found = ", ".join(names)
        warnings.warn(
            f"the optimizer inside autotune {why.format(found)}", stacklevel=3
        )


def without_rules(
    optimizer: optax.GradientTransformation,
) -> optax.GradientTransformationExtraArgs:
    """The optimizer, whose ``init`` raises if rules or wrappers are in it."""
    optimizer = optax.with_extra_args_support(optimizer)

    def init_fn(params):
        state = optimizer.init(params)
        if nodes_of(state, ACCUMULATION):
            raise ValueError(
                "autotune measures each update, but the optimizer inside accumulates "
                "gradients and updates only once in several steps: accumulate around "
                "it, as in optax.MultiSteps(autotune(optimizer), every_k_schedule)"
            )
        if (
            nodes_of(state, ScaleByControllerState)
            or averaging.find_all(state)
            or snapshots.find_all(state)
        ):
            raise ValueError(
                "autotune sets the rate, averages and rolls back by itself: give it an "
                "optimizer that holds no scale_by_controller, autotune, with_averaging "
                "or with_rollback"
            )
        return state

    return optax.GradientTransformationExtraArgs(init_fn, optimizer.update)
