"""Slow reference of bold_driver."""

import math


def bold_driver_reference(growth=1.1, decay=0.5):
    def decide(window, log_scale):
        if math.isinf(window.value):
            return log_scale + math.log(decay)
        if len(window.means) < 2:
            return log_scale
        change = window.means[-1] - window.means[-2]
        error = math.hypot(*window.errors[-2:])
        if change > error:
            return log_scale + math.log(decay)
        return log_scale + (math.log(growth) if change < -error else 0.0)

    return decide
