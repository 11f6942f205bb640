"""Learning rates that follow the loss, for Optax."""

from optax_adaptive import controllers
from optax_adaptive._controller import Controller, Observation
from optax_adaptive._inspect import lr_scale, observe, summary
from optax_adaptive._scale import ScaleByControllerState, scale_by_controller

__version__ = "0.1.0"

__all__ = [
    "Controller",
    "Observation",
    "ScaleByControllerState",
    "controllers",
    "lr_scale",
    "observe",
    "scale_by_controller",
    "summary",
]
