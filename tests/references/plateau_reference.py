"""Slow reference of plateau."""

import math

from tests.references.slope_reference import slope_reference


def plateau_reference(
    factor, patience, rtol=1e-4, atol=0.0, cooldown=0, criterion="best"
):
    best, bad, cooling = math.inf, 0, 0

    def decide(window, log_scale):
        nonlocal best, bad, cooling
        if math.isinf(best):
            is_better = math.isfinite(window.value)
        else:
            is_better = window.value < best - (rtol * abs(best) + atol)
        if is_better:
            best = window.value
        if criterion == "slope":
            newest = window.means[-max(patience - 1, 5) :]
            is_falling = len(newest) < 5 or slope_reference(newest) < -1.645
            is_better = math.isfinite(window.value) and is_falling
        bad = 0 if is_better or cooling else bad + 1
        cooling = max(cooling - 1, 0)
        if bad == patience:
            bad, cooling = 0, cooldown
            log_scale += math.log(factor)
        return log_scale

    return decide
