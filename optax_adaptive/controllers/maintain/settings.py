"""Constants and state of maintain."""

from typing import NamedTuple

import jax.numpy as jnp

from optax_adaptive._controller import Array, Found, nothing_found
from optax_adaptive.controllers.maintain.rate_correction import CorrectionSettings

INTERPOLATION = 0.7  # of params with the average, if they are interpolated

# What may have changed the rate, as ``in_words`` has it.
CHANGES = (
    "",  # nothing yet
    "lowered by the rate correction",
    "raised by the rate correction",
    "halved after a blow-up",
    "raised back since the blow-up",
    "lowered by a restart",
)
_, LOWERED, RAISED, HALVED, UNDONE, RESTARTED = range(len(CHANGES))


class MaintainSettings(NamedTuple):
    """Constants of ``maintain``; steps are counted from where it began."""

    shortest_block: int = 40  # steps
    # Steps of a block over those elapsed at its start: a quarter of those at its end.
    block: float = 1 / 3
    lowest: float = 10.0**-0.5  # smallest factor of one change, except for a restart
    back_off: float = 0.5  # factor on a rate at which the loss has blown up
    floor: float = 1e-3  # lowest factor on the rate found
    # A lower rate hardly repairs what one that was far too high has done. So within
    # this fraction of the run, if the rate has to come down to ``far`` or less in one
    # change, or if the gradient points back to the parameters at which the rule began,
    # the run restarts from these. No other copy is taken in this time, so it is no
    # longer than needed: the first three blocks take 120 steps.
    probation: float = 0.25
    most_probation: int = 125  # steps
    far: float = 0.7  # factor at which the gap is twice what is allowed
    back_to: float = 0.4  # highest factor where the gradient points back; below far
    # In these first steps the gap is small even at rates that prove far too high later.
    # So where losses have noise, no rate is raised before.
    early: int = 250
    gap_unit: float = 1.0  # what averaging gaps are multiplied by
    points_back: bool = True  # whether to check if the gradient points back
    correction: CorrectionSettings = CorrectionSettings()


SETTINGS = MaintainSettings()
# Gradients at an interpolation have only a part of the noise. So the gap is that of the
# point that the optimizer moves, and may be twice as large. A run also tolerates twice
# the rate, at which the gradient often points back, so that is not checked. The average
# takes the place of momentum, and is never shorter than usual.
INTERPOLATED = MaintainSettings(
    gap_unit=(1.0 - INTERPOLATION) ** -0.5,
    points_back=False,
    correction=CorrectionSettings(high=2.0, shortest=1.0),
)


class MaintainState(NamedTuple):
    """What ``maintain`` remembers."""

    found: Found  # inf where there was no search
    # shape=(), dtype=int32: step at which it began, or last restarted; -1 before
    began: Array
    elapsed: Array  # shape=(), dtype=int32: steps since then
    blocks: Array  # shape=(), dtype=int32: since then, or since a rollback
    # shape=(), dtype=int32: value of ``elapsed`` at the last blow-up, or when a halving
    # was last undone; 0 before
    blown_up_at: Array
    backoffs: Array  # shape=(), dtype=int32: halvings that are not undone yet
    # shape=(), dtype=float32: log factors, that of the last whole block at one factor,
    # and that of the last decision; inf before
    proven: Array
    decided: Array
    value_left: Array  # shape=(), dtype=float32: loss at the last restart; inf before
    restarts: Array  # shape=(), dtype=bool: does this decision restart?
    rises: Array  # shape=(), dtype=bool: does this decision raise the rate?
    half_life: Array  # shape=(), dtype=float32: factor on that of the average
    average_lags: Array  # shape=(), dtype=bool
    last_change: Array  # shape=(), dtype=int32: index in CHANGES


def first_state() -> MaintainState:
    """The state before the first block."""
    none, no = jnp.zeros((), jnp.int32), jnp.zeros((), jnp.bool_)
    return MaintainState(
        found=nothing_found(),
        began=none - 1,
        elapsed=none,
        blocks=none,
        blown_up_at=none,
        backoffs=none,
        proven=jnp.full((), jnp.inf, jnp.float32),
        decided=jnp.full((), jnp.inf, jnp.float32),
        value_left=jnp.full((), jnp.inf, jnp.float32),
        restarts=no,
        rises=no,
        half_life=jnp.ones((), jnp.float32),
        average_lags=no,
        last_change=none,
    )
