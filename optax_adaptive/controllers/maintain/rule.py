"""maintain: keeps a rate, guarded by rollback and corrected by the averaging gap."""

import math

import jax.numpy as jnp

from optax_adaptive._controller import (
    ROUNDING,
    Array,
    Controller,
    Found,
    Observation,
    nothing,
)
from optax_adaptive.controllers.maintain.rate_correction import (
    BLOCKS,
    TINY,
    Block,
    Proposal,
    propose,
)
from optax_adaptive.controllers.maintain.setbacks import (
    backed_off,
    floor,
    is_soon,
    restarted,
    rolled_back,
)
from optax_adaptive.controllers.maintain.settings import (
    HALVED,
    INTERPOLATED,
    LOWERED,
    RAISED,
    RESTARTED,
    SETTINGS,
    UNDONE,
    MaintainSettings,
    MaintainState,
    first_state,
)
from optax_adaptive.state.trees import saturating_add, select
from optax_adaptive.state.validation import check_count, check_flag, check_settings

# In float32 the mean of many more values would no longer move.
MOST_IN_BLOCK = 2**20


def maintain(
    total_steps: int | None = None,
    interpolate: bool = False,
    settings: MaintainSettings | None = None,
) -> Controller:
    """Keeps a rate, and corrects it where the loss says that it is too high or too low.

    Use it if you know your rate, as in fine-tuning; :func:`autotune` does the same from
    the rate that its search finds. After each block of steps, a quarter of those so far
    and at least 40, the averaging gap (the loss of the newest parameters minus that of
    their average) is compared with the decrease of the loss. If the gap is larger, the
    rate comes down; if it is less than a quarter of the decrease, the rate goes up,
    except from below the first rate. If losses differ from batch to batch, it does not
    go up in the first 250 steps, nor while the loss decreases tenfold. A rate may prove
    far too high within the first quarter of the run, or 125 steps if that is less: it
    has to come down to 0.7 of itself, or the gradient points back to the parameters at
    which ``maintain`` began. Then the run restarts from these, at a lower rate. A rate
    at which the loss blows up is halved, or quartered if that happens again soon. Each
    halving is undone once the run has gone well for as long as before the blow-up. A
    rate that was raised by hand meanwhile returns to where it was.

    Args:
      total_steps: Number of updates of the whole run, or None: it bounds the first
        part, in which too high a rate leads to a restart.
      interpolate: Whether params are interpolated with the average, by 0.7.
      settings: Its constants; by default those for ``interpolate``.

    Returns:
      A :class:`~optax_adaptive.Controller`, for use within :func:`with_averaging` and
      :func:`with_rollback`.

    Raises:
      ValueError: If ``total_steps`` is not an integer of at least 1, or ``interpolate``
        is not a bool.
      TypeError: If ``settings`` are of another kind.

    Example:
      >>> import optax
      >>> from optax_adaptive import controllers, scale_by_controller
      >>> from optax_adaptive import with_averaging, with_rollback
      >>> rule = scale_by_controller(controllers.maintain())
      >>> tx = optax.chain(optax.adamw(2e-5), rule)
      >>> tx = with_averaging(with_rollback(tx, backoff=1.0), fraction=0.1)

    Reference:
      The gap: after Pesme, Dieuleveut and Flammarion, `On Convergence-Diagnostic based
      Step Sizes <https://arxiv.org/abs/2007.00534>`_, 2020. Yaida,
      `Fluctuation-Dissipation Relations for Stochastic Gradient Descent
      <https://arxiv.org/abs/1810.00004>`_, 2018
    """
    if total_steps is not None:
        check_count("total_steps", total_steps)
    check_flag("interpolate", interpolate)
    if settings is None:
        settings = INTERPOLATED if interpolate else SETTINGS
    check_settings(settings, MaintainSettings)
    probation = settings.most_probation
    if total_steps is not None:
        probation = min(int(settings.probation * total_steps), probation)

    def update_fn(observation: Observation, state: MaintainState):
        is_block = jnp.isfinite(observation.value)
        is_blown_up = observation.is_rolled_back & ~is_block
        state = select(observation.is_rolled_back, rolled_back(state), state)
        blocks = saturating_add(state.blocks, is_block)
        state = _with_start(state._replace(blocks=blocks), observation, settings)
        block = _block(observation, state, settings)
        proposal = propose(block, settings.correction)
        # Before, the gap and the decrease are not known.
        is_judged = is_block & (state.blocks >= BLOCKS) & ~_is_mute(state, block)
        is_judged &= observation.has_averaging_gap
        on_probation = state.elapsed <= probation
        change, restarts = _allowed(
            proposal, state, observation, on_probation, settings
        )
        lowest = floor(state, settings)
        change = jnp.where(is_judged, change, 0.0)
        # From the lowest rate a restart would only lead to another.
        restarts &= is_judged & (observation.log_scale > lowest + ROUNDING)
        is_undone = is_block & (state.backoffs > 0) & ~is_soon(state) & (change >= 0.0)
        change = jnp.where(is_undone, -math.log(settings.back_off), change)
        went_on = state._replace(
            restarts=jnp.zeros((), jnp.bool_),
            rises=change > 0.0,
            blown_up_at=jnp.where(is_undone, state.elapsed, state.blown_up_at),
            backoffs=state.backoffs - is_undone.astype(jnp.int32),
            half_life=jnp.where(is_judged, proposal.half_life, state.half_life),
            average_lags=jnp.where(
                is_block, is_judged & proposal.average_lags, state.average_lags
            ),
        )
        log_scale = observation.log_scale
        # A rate that was raised by hand meanwhile is proven by the next block.
        proven = jnp.minimum(log_scale, state.decided)
        proven = jnp.where(is_block, proven, state.proven)
        went_on = went_on._replace(proven=proven)
        new = select(restarts, restarted(state, observation, block), went_on)
        after_blow_up, down = backed_off(state, log_scale, settings)
        new = select(is_blown_up, after_blow_up, new)
        change = jnp.where(is_blown_up, down, change)
        log_scale = jnp.maximum(log_scale + change, jnp.minimum(log_scale, lowest))
        cause = jnp.where(change < 0.0, LOWERED, jnp.where(is_undone, UNDONE, RAISED))
        cause = jnp.where(restarts, RESTARTED, jnp.where(is_blown_up, HALVED, cause))
        cause = jnp.where(log_scale == observation.log_scale, state.last_change, cause)
        return log_scale, new._replace(decided=log_scale, last_change=cause)

    def request_fn(state: MaintainState):
        # Before the first decision, the rule does not know at which step it began.
        most = jnp.int32(jnp.iinfo(jnp.int32).max)
        end = jnp.where(state.began < 0, most, state.began + probation)
        size = settings.block * state.elapsed.astype(jnp.float32)
        size = jnp.clip(jnp.ceil(size), settings.shortest_block, MOST_IN_BLOCK)
        return nothing()._replace(
            restore=state.restarts,
            snapshot=state.rises,
            keep_until=jnp.where(state.elapsed < probation, end, 0),
            half_life=state.half_life,
            average_lags=state.average_lags,
            accumulation_size=size.astype(jnp.int32),
        )

    return Controller(
        init=first_state,
        update=update_fn,
        request=request_fn,
        begin=lambda state, found: state._replace(
            found=found, proven=found.log_scale, decided=found.log_scale
        ),
        name="maintain-interpolated" if interpolate else "maintain",
        needs=("with_averaging", "with_rollback"),
    )


def _with_start(
    state: MaintainState, observation: Observation, settings: MaintainSettings
) -> MaintainState:
    """The state; without a search, with what the first block shows in its place."""
    found, size = state.found, jnp.float32(settings.shortest_block)
    is_first = jnp.isinf(found.first_value) & jnp.isfinite(observation.value)
    standard_deviation = observation.standard_error[-1] * jnp.sqrt(size)
    seen = Found(
        log_scale=observation.log_scale,
        first_value=observation.value,
        standard_deviation=standard_deviation,
        has_noise=standard_deviation > 1e-3 * jnp.abs(observation.value),
        gradient_factor=found.gradient_factor,
    )
    is_known = ~jnp.isinf(found.log_scale)
    log_scale = jnp.where(is_known, found.log_scale, observation.log_scale)
    found = select(is_first, seen, found)._replace(log_scale=log_scale)
    # The first decision comes at the end of a block.
    step = jnp.maximum(observation.step + 1 - settings.shortest_block, 0)
    began = jnp.where(state.began < 0, step, state.began)
    elapsed = observation.step + 1 - began
    return state._replace(found=found, began=began, elapsed=elapsed)


def _block(
    observation: Observation, state: MaintainState, settings: MaintainSettings
) -> Block:
    """What is known once a block has ended."""
    means = observation.history[-BLOCKS:]
    errors = observation.standard_error[-BLOCKS:]
    factor = state.found.gradient_factor
    # A block that is cut short sees a part of the decrease that a whole one would see.
    whole = settings.block / (1.0 + settings.block) * state.elapsed.astype(jnp.float32)
    longer = jnp.maximum(whole / MOST_IN_BLOCK, 1.0)
    return Block(
        mean=means[-1],
        decrease=longer * (means[0] - means[-1]),
        error=longer * jnp.hypot(errors[0], errors[-1]),
        total=jnp.maximum(state.found.first_value - means[-1], 0.0),
        gap=settings.gap_unit * observation.averaging_gap / factor,
        slope=observation.return_slope / factor,
    )


def _is_mute(state: MaintainState, block: Block) -> Array:
    """Whether the loss says nothing: it neither changes nor has noise."""
    change = jnp.abs(state.found.first_value - block.mean)
    is_constant = block.error <= 1e-6 * jnp.abs(block.mean) + TINY
    return is_constant & (change <= state.found.standard_deviation)


def _allowed(
    proposal: Proposal,
    state: MaintainState,
    observation: Observation,
    on_probation: Array,
    settings: MaintainSettings,
) -> tuple[Array, Array]:
    """The change of the rate that follows from the proposal; whether to restart."""
    change = proposal.log_factor
    # Not again if a restart has not even led to a lower loss: it was no cure.
    is_better = observation.value < state.value_left
    points_back = proposal.points_back & on_probation & is_better
    points_back &= settings.points_back
    back_to = math.log(settings.back_to)
    change = jnp.where(points_back, jnp.minimum(change, back_to), change)
    is_vetoed = _is_raise_vetoed(proposal, state, observation, settings)
    change = jnp.where((change > 0.0) & is_vetoed, 0.0, change)
    restarts = (change < math.log(settings.far)) & on_probation
    restarts &= proposal.is_harmful | points_back
    bounded = jnp.maximum(change, math.log(settings.lowest))
    return jnp.where(restarts, change, bounded), restarts


def _is_raise_vetoed(
    proposal: Proposal,
    state: MaintainState,
    observation: Observation,
    settings: MaintainSettings,
) -> Array:
    """Whether a raise that is proposed is not made, bool of shape ()."""
    # A rate that came down did so for a reason.
    is_lowered = observation.log_scale < state.found.log_scale - ROUNDING
    # After a blow-up the run has to go well for as long as it did before.
    blew_up = is_soon(state)
    # With noise, too high a rate does not show at once. And when the loss decreases by
    # orders of magnitude, so does the gap: it would speak against a higher rate only
    # once all of that decrease is undone.
    is_too_early = (state.elapsed <= settings.early) | proposal.is_fast
    # Without it, nothing speaks against a higher rate near rest until it blows up.
    by_noise = jnp.where(state.found.has_noise, is_too_early, proposal.is_at_rest)
    return is_lowered | blew_up | by_noise
