"""Autotune as its docstring composes it, with other settings."""

from typing import Any, NamedTuple

import optax

from methods import rules
from optax_adaptive import (
    controllers,
    scale_by_controller,
    with_averaging,
    with_rollback,
)
from optax_adaptive.controllers.maintain.settings import (
    INTERPOLATED as MAINTAIN_INTERPOLATED,
)
from optax_adaptive.controllers.maintain.settings import INTERPOLATION, MaintainSettings
from optax_adaptive.controllers.search import SearchSettings
from optax_adaptive.controllers.tuned import INTERPOLATED as SEARCH_INTERPOLATED
from optax_adaptive.transforms.autotune import (
    AVERAGING,
    AVERAGING_INTERPOLATED,
    MAX_SCALE,
    MIN_SCALE,
)


class Variant(NamedTuple):
    """Settings that differ, by name."""

    search: dict[str, Any] = {}
    maintain: dict[str, Any] = {}
    correction: dict[str, Any] = {}
    fraction: float | None = None  # half-life of the average
    interpolation: float = INTERPOLATION
    has_momentum: bool = False  # with an interpolation as well


UNCORRECTED = Variant(
    maintain={"points_back": False},
    correction={"low": 0.0, "high": 1e9, "z": 1e9, "widest": 1.0},
)

VARIANTS = {
    "default": Variant(),
    "half the rate found": Variant(search={"even_factor": 0.1, "most_factor": 0.5}),
    "twice the rate found": Variant(search={"even_factor": 0.4, "most_factor": 2.0}),
    "whatever the gap": Variant(search={"power": 0.0, "even_factor": 0.35}),
    "the gap in full": Variant(search={"power": 1.0, "even_factor": 0.06}),
    "never corrected": UNCORRECTED,
    "never raised": Variant(correction={"low": 0.0}),
    "lowered by a rise alone": Variant(correction={"high": 1e9}),
    "cost over fall 0.1 to 0.5": Variant(correction={"low": 0.1, "high": 0.5}),
    "cost over fall 0.5 to 2": Variant(correction={"low": 0.5, "high": 2.0}),
    "corrected in full": Variant(correction={"power": 1.0}),
    "no error allowed for": Variant(correction={"z": 0.0}),
    "never starts over": Variant(maintain={"probation": 0.0}),
    "the way back not asked": Variant(maintain={"points_back": False}),
    "the way back down by 0.1": Variant(correction={"back": 0.1}),
    "the way back down by 0.4": Variant(correction={"back": 0.4}),
    "half the rate where it leads down": Variant(maintain={"back_to": 0.5}),
    "a quarter where it leads down": Variant(maintain={"back_to": 0.25}),
    "averaging 0.05": Variant(fraction=0.05),
    "averaging 0.2": Variant(fraction=0.2),
    "averaging 0.1 whatever noise costs": Variant(correction={"widest": 1.0}),
    "range test from 1e-5": Variant(search={"test_from": 1e-5}),
    "trial never kept": Variant(search={"keep_above": 1e9}),
    "trial kept whatever its rate": Variant(search={"keep_above": 0.0}),
}

# The same for gradients at an interpolation.
INTERPOLATED = {
    "default": Variant(),
    "never corrected": UNCORRECTED,
    "cost over fall 0.25 to 1": Variant(correction={"high": 1.0}),
    "interpolation 0": Variant(interpolation=0.0),
    "interpolation 0.5": Variant(interpolation=0.5),
    "interpolation 0.8": Variant(interpolation=0.8),
    "interpolation 0.9": Variant(interpolation=0.9),
    "momentum as well": Variant(has_momentum=True),
    "averaging 0.05": Variant(fraction=0.05),
    "averaging 0.4": Variant(fraction=0.4),
    "half the rate found": Variant(search={"even_factor": 0.125, "most_factor": 1.5}),
    "twice the rate found": Variant(search={"even_factor": 0.5, "most_factor": 6.0}),
}


def variants(method: str) -> dict[str, Variant]:
    """Those of a method of autotune."""
    interpolates, _ = rules.AUTOTUNE[method]
    return INTERPOLATED if interpolates else VARIANTS


def composed(
    optimizer: optax.GradientTransformation,
    variant: Variant,
    *,
    total_steps: int | None,
    interpolate: bool,
) -> optax.GradientTransformationExtraArgs:
    """Autotune as its docstring composes it, with other settings."""
    search, maintain = SearchSettings(), MaintainSettings()
    fraction, interpolation = AVERAGING, 0.0
    if interpolate:
        search = SEARCH_INTERPOLATED
        fraction, interpolation = AVERAGING_INTERPOLATED, variant.interpolation
        gap_unit = (1.0 - interpolation) ** -0.5
        maintain = MAINTAIN_INTERPOLATED._replace(gap_unit=gap_unit)
    correction = maintain.correction._replace(**variant.correction)
    maintain = maintain._replace(correction=correction)._replace(**variant.maintain)
    rule = controllers.tuned(
        *(total_steps, interpolate),
        search_settings=search._replace(**variant.search),
        maintain_settings=maintain,
    )
    scaling = scale_by_controller(rule, min_scale=MIN_SCALE, max_scale=MAX_SCALE)
    tx = with_rollback(
        optax.chain(optimizer, scaling), backoff=1.0, restore_inner=False
    )
    fraction = fraction if variant.fraction is None else variant.fraction
    return with_averaging(tx, fraction=fraction, interpolation=interpolation)
