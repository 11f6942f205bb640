"""Learning rates that follow the loss, for Optax."""

from optax_adaptive import controllers, integrations, rl
from optax_adaptive._controller import Controller, Found, Observation, Request
from optax_adaptive.state.batch_stats import recompute_batch_stats
from optax_adaptive.state.controller_state import ScaleByControllerState
from optax_adaptive.transforms.autotune import AutotuneState, autotune
from optax_adaptive.transforms.averaging import eval_params, with_averaging
from optax_adaptive.transforms.in_words import in_words
from optax_adaptive.transforms.inspect import lr_scale, summary
from optax_adaptive.transforms.observe import observe
from optax_adaptive.transforms.rollback import with_rollback
from optax_adaptive.transforms.scale_by_controller import scale_by_controller
from optax_adaptive.transforms.select_on_rollback import select_on_rollback

__version__ = "0.2.0"

__all__ = [
    "AutotuneState",
    "Controller",
    "Found",
    "Observation",
    "Request",
    "ScaleByControllerState",
    "autotune",
    "controllers",
    "eval_params",
    "in_words",
    "integrations",
    "lr_scale",
    "observe",
    "recompute_batch_stats",
    "rl",
    "scale_by_controller",
    "select_on_rollback",
    "summary",
    "with_averaging",
    "with_rollback",
]
