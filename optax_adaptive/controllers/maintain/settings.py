"""Constants and state of maintain."""

from typing import NamedTuple

import jax.numpy as jnp

from optax_adaptive._controller import Array, Found, nothing_found
from optax_adaptive.controllers.maintain.rate_correction import CorrectionSettings

INTERPOLATION = 0.7  # of params with the average, for which the settings below are


class MaintainSettings(NamedTuple):
    """What maintaining goes by; steps are those since it began."""

    shortest_block: int = 40  # steps
    # Of a block, over the elapsed steps when it begins: a quarter of those at its end.
    block: float = 1 / 3
    lowest: float = 10.0**-0.5  # factor at once, but where the run restarts
    back_off: float = 0.5  # factor on a rate at which the loss has blown up
    floor: float = 1e-3  # lowest factor on the rate found
    # What a rate far too high has done, a lower one hardly makes good. So one that has
    # to come down by ``far`` at once, within this fraction of the run, restarts from
    # the parameters at which it began, and so does one from which the gradient points
    # back to them. No other copy is taken until then, so it is no longer than it takes
    # to know: the first three blocks take 120 steps.
    probation: float = 0.25
    most_probation: int = 125  # steps
    far: float = 0.7  # factor: the gap is twice what is allowed
    back_to: float = 0.4  # highest factor where the gradient points back; below far
    # Until so many steps the gap is small even at rates that prove far too high later.
    # So none is raised.
    early: int = 250
    gap_unit: float = 1.0  # what averaging gaps are multiplied by
    points_back: bool = True  # look whether it does
    correction: CorrectionSettings = CorrectionSettings()


SETTINGS = MaintainSettings()
# Gradients at an interpolation bear a part of the noise alone: the gap is that of the
# point that the optimizer moves, and may be twice as large. They bear twice the rate as
# well, from which the gradient often points back. The average takes the place of
# momentum, and is never shorter than usual.
INTERPOLATED = MaintainSettings(
    gap_unit=(1.0 - INTERPOLATION) ** -0.5,
    points_back=False,
    correction=CorrectionSettings(high=2.0, shortest=1.0),
)


class MaintainState(NamedTuple):
    """What maintaining remembers."""

    found: Found  # inf where no search has found it
    began: Array  # shape=(), dtype=int32: step at which it did, or restarted
    elapsed: Array  # shape=(), dtype=int32: steps since then
    blocks: Array  # shape=(), dtype=int32: since then, or since a rollback
    blown_up_at: Array  # shape=(), dtype=int32: value of elapsed, or where undone; or 0
    backoffs: Array  # shape=(), dtype=int32: that are not undone yet
    value_left: Array  # shape=(), dtype=float32: where it last restarted; inf before
    restarts: Array  # shape=(), dtype=bool: does this decision?
    rises: Array  # shape=(), dtype=bool: does this decision raise the rate?
    half_life: Array  # shape=(), dtype=float32: factor on that of the average
    average_lags: Array  # shape=(), dtype=bool


def first_state() -> MaintainState:
    """Before the first block."""
    none, no = jnp.zeros((), jnp.int32), jnp.zeros((), jnp.bool_)
    return MaintainState(
        found=nothing_found(),
        began=none - 1,
        elapsed=none,
        blocks=none,
        blown_up_at=none,
        backoffs=none,
        value_left=jnp.full((), jnp.inf, jnp.float32),
        restarts=no,
        rises=no,
        half_life=jnp.ones((), jnp.float32),
        average_lags=no,
    )
