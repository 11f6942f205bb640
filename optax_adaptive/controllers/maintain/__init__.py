"""Keeping a rate, and correcting it."""

from optax_adaptive.controllers.maintain.rule import maintain
from optax_adaptive.controllers.maintain.settings import MaintainSettings

__all__ = ["MaintainSettings", "maintain"]
