"""Slow reference of trend."""

import math

from tests.references.slope_reference import slope_reference


def trend_reference(growth=1.5, decay=0.5, span=12):
    first_window, flat = 0, 0  # of the rate in force

    def decide(window, log_scale):
        nonlocal first_window, flat
        values = window.means[first_window:]
        z = slope_reference(values[-span:]) if len(values) >= 5 else 0.0
        flat = flat + 1 if len(values) >= span and z > -1.645 else 0
        if math.isinf(window.value) or flat == 2 or z > 3.291:
            step = math.log(decay)
        elif z < -3.291:
            step = math.log(growth)
        else:
            return log_scale
        first_window, flat = len(window.means), 0
        return log_scale + step

    return decide
