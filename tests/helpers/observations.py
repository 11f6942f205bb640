"""What rules are shown, typed as scale_by_controller shows it."""

import numpy as np

from optax_adaptive import Observation

INTEGERS = ("step",)
FLAGS = ("is_validated", "has_averaging_gap", "is_rolled_back")


def observation(size=3, **fields):
    """An observation in which all but ``fields`` is zero, and no history known."""
    shown = {name: np.float32(0.0) for name in Observation._fields}
    shown |= {name: np.int32(0) for name in INTEGERS}
    shown |= {name: np.bool_(False) for name in FLAGS}
    shown |= dict(
        history=np.zeros(size, np.float32),
        mask=np.zeros(size, np.bool_),
        standard_error=np.zeros(size, np.float32),
    )
    assert set(fields) <= set(shown)
    typed = {name: np.asarray(x, shown[name].dtype) for name, x in fields.items()}
    return Observation(**shown | typed)
