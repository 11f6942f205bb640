"""Adapters to loops that were not written for optimizers that read the loss.

No library beyond those of the core is imported here, except matplotlib when a picture
is drawn: the functions use the objects they are given.
"""

from optax_adaptive.integrations.as_schedule import as_schedule
from optax_adaptive.integrations.check_replicas import check_replicas
from optax_adaptive.integrations.checkpoint import Graft, graft
from optax_adaptive.integrations.export import register_for_export
from optax_adaptive.integrations.multi_steps import multi_steps
from optax_adaptive.integrations.plot_run import plot_run
from optax_adaptive.integrations.train_state import apply_gradients

__all__ = [
    "Graft",
    "apply_gradients",
    "as_schedule",
    "check_replicas",
    "graft",
    "multi_steps",
    "plot_run",
    "register_for_export",
]
