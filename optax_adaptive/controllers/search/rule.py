"""search: finds a learning rate, from any base rate, before the run itself.

The learning-rate range test (Smith, 2015) with a start that is measured in the
parameters' own unit, as in DoG (Ivgi et al., 2023), so that the base learning rate
drops out. It ends where the gradient turns, and the noise in a trial run below says how
far the best rate is from there.
"""

import math

import jax.numpy as jnp

from optax_adaptive._controller import (
    PROBE_CALIBRATION,
    PROBE_WARM_UP,
    ROUNDING,
    Array,
    Controller,
    Found,
    Observation,
    nothing,
)
from optax_adaptive.controllers.search import gradient_factor
from optax_adaptive.controllers.search.bad_losses import watch, wild_above
from optax_adaptive.controllers.search.calibration import calibrate
from optax_adaptive.controllers.search.settings import (
    CALIBRATE,
    LEAST_STEPS,
    WARM_UP,
    SearchSettings,
    SearchState,
    done,
    first_state,
    lengths,
)
from optax_adaptive.controllers.search.trial import risen, run_trial
from optax_adaptive.controllers.search.turning import run_range_test
from optax_adaptive.state import packing
from optax_adaptive.state.trees import select
from optax_adaptive.state.validation import check_count, check_settings

SETTINGS = SearchSettings()


def search(
    total_steps: int | None = None, settings: SearchSettings | None = None
) -> Controller:
    """Finds a learning rate within the first steps of a run, then keeps it.

    1. *Calibrate*, 12 steps: updates too small to move anything show the loss, its
       noise, and the size of an update.
    2. *Range test*, about 15 to 41 steps: the rate rises exponentially from where
       nothing moves until the gradient has turned against the way from the first
       parameters, or the loss is clearly worse there, or one step moves params by ten
       times their size.
    3. *Trial*, 60 steps from the first parameters: the rate rises linearly to 0.6 of
       that at which the gradient turns. The rate found follows from the averaging gap
       in the last third of them, over the decrease of the loss. Where the gap exceeds
       four times the decrease, or the loss is clearly worse than at the start, a lower
       rate is tried.
    4. *Warm-up*: the rate rises on to the one found, as steeply as in the trial; if
       that is less than 0.8 of the rate reached, from 0 and from the first parameters.

    Use :func:`then` to hand over to the rule that continues from there. Each call must
    make an update: accumulate gradients around it, as by ``optax.MultiSteps``, not
    inside.

    Args:
      total_steps: Number of updates of the whole run, an integer of at least 200, or
        None if it is not given. If it is less than 480, the trial is an eighth of it.
      settings: Its constants; None for those of autotune without ``interpolate``.

    Returns:
      A :class:`~optax_adaptive.Controller`, for use within :func:`with_averaging` and
      :func:`with_rollback`.

    Raises:
      ValueError: If ``total_steps`` is not an integer of at least 200, or the trial of
        ``settings`` is of fewer than 3 steps.
      TypeError: If ``settings`` are of another kind.

    Example:
      >>> import optax
      >>> from optax_adaptive import controllers, scale_by_controller
      >>> from optax_adaptive import with_averaging, with_rollback
      >>> rule = controllers.then(controllers.search(), controllers.trend())
      >>> tx = optax.chain(optax.adam(1e-3), scale_by_controller(rule))
      >>> tx = with_averaging(with_rollback(tx))

    Reference:
      Smith, `Cyclical Learning Rates for Training Neural Networks
      <https://arxiv.org/abs/1506.01186>`_, 2015. Ivgi et al., `DoG is SGD's Best
      Friend <https://arxiv.org/abs/2302.12022>`_, 2023. Defazio and Mishchenko,
      `Learning-Rate-Free Learning by D-Adaptation <https://arxiv.org/abs/2301.07733>`_,
      2023.
    """
    if total_steps is not None:
        total_steps = check_count("total_steps", total_steps, LEAST_STEPS)
    settings = SETTINGS if settings is None else settings
    check_settings(settings, SearchSettings)
    sized = lengths(total_steps, settings)
    if sized.part < 1:
        raise ValueError(
            "a trial is compared by thirds, so it must be of at least 3 steps, but "
            f"settings make it {sized.trial}"
        )
    stages = [  # in the order of their numbers
        lambda seen: calibrate(*seen[:3], settings=settings),
        lambda seen: run_range_test(seen[0], settings, sized),
        lambda seen: run_trial(seen[0], *seen[4:], settings=settings, sized=sized),
        lambda seen: _warm_up(seen[0]),
        lambda seen: (seen[0], seen[0].found.log_scale),
        lambda seen: (seen[0], seen[3]),  # of a step that does not count
    ]

    def update_fn(observation: Observation, state: SearchState):
        is_done = state.is_done
        state = watch(state, observation.value, settings)
        state = _within_bounds(state, observation)
        state = _begin_warm_up_anew(state, observation)
        state = gradient_factor.compare(state, observation, settings)
        # A step whose loss is bad does not count (with_rollback skips its update). But
        # in calibration it shows how far the step before has moved, and in the warm-up
        # it is a blow-up, after which the rate begins from below.
        is_step = (state.nonfinite == 0) & ~state.is_waiting
        is_step |= (state.stage == CALIBRATE) | (state.stage == WARM_UP)
        sizes = observation.displacement, observation.gradient_size
        gap = observation.averaging_gap, observation.has_averaging_gap
        state, log_scale = packing.switch(
            jnp.where(is_step, state.stage, len(stages) - 1),
            stages,
            like=(state, observation.log_scale),
            operands=(state, *sizes, observation.log_scale, *gap),
        )
        log_scale = jnp.where(state.is_done, state.found.log_scale, log_scale)
        # Once done, the factor in force is kept, as the bounds have left it.
        return jnp.where(is_done, observation.log_scale, log_scale), state

    def begin_fn(state: SearchState, found: Found):
        # A rate that is given takes the place of the one found.
        return done(state)._replace(found=found)

    def request_fn(state: SearchState):
        number = state.stage + PROBE_CALIBRATION
        number = jnp.where(state.stage == WARM_UP, PROBE_WARM_UP, number)
        most = jnp.int32(jnp.iinfo(jnp.int32).max)
        return nothing()._replace(
            probe=jnp.where(state.is_done, 0, number),
            restore=state.restores,
            snapshot=state.is_warm,
            keep_until=jnp.where(state.is_done, 0, most),
            accumulation_size=1 - state.is_done.astype(jnp.int32),
            skip_above=wild_above(state, settings),
        )

    return Controller(
        init=lambda: first_state(settings),
        update=update_fn,
        initial_log_scale=math.log(settings.least_scale),
        request=request_fn,
        begin=begin_fn,
        name="search",
        needs=("with_averaging", "with_rollback"),
    )


def _within_bounds(state: SearchState, observation: Observation) -> SearchState:
    """Takes the factor that moved params, if bounds have cut the one asked for."""
    is_cut = jnp.abs(observation.log_scale - state.log_scale) > ROUNDING
    is_cut &= state.stage == CALIBRATE
    log_scale = jnp.where(is_cut, observation.log_scale, state.log_scale)
    return state._replace(log_scale=log_scale)


def _begin_warm_up_anew(state: SearchState, observation: Observation) -> SearchState:
    """Begins the warm-up anew after a rollback; to half the rate, if it is to blame."""
    is_back = observation.is_rolled_back & (state.stage == WARM_UP)
    is_blamed = is_back & ~jnp.isfinite(observation.value)
    down = jnp.where(is_blamed, math.log(2.0), 0.0)
    return state._replace(
        clock=jnp.where(is_back, 0, state.clock),
        log_scale=state.log_scale - down,
        found=state.found._replace(log_scale=state.found.log_scale - down),
    )


def _warm_up(state: SearchState) -> tuple[SearchState, Array]:
    """Raises the rate to the one found, a step at a time."""
    log_scale, found = risen(state), state.found.log_scale
    is_warm = log_scale >= found - ROUNDING
    state = select(is_warm, done(state), state)._replace(is_warm=is_warm)
    return state, jnp.minimum(log_scale, found)
