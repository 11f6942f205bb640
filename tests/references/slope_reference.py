"""Slow reference of the slope test: numpy's line fit, then Wallace's normal score."""

import math

import numpy as np


def slope_reference(values) -> float:
    """The z score of the slope of ``values`` on their index."""
    n = len(values)
    if n < 3:
        return 0.0
    index = np.arange(n)
    slope, intercept = np.polyfit(index, values, 1)
    residuals = values - slope * index - intercept
    error = math.sqrt(
        np.sum(residuals**2) / (n - 2) / np.sum((index - index.mean()) ** 2)
    )
    t = slope / error
    freedom = n - 2
    z = math.sqrt(freedom * math.log1p(t * t / freedom))
    z *= (8 * freedom + 1) / (8 * freedom + 3)
    return math.copysign(z, t)
