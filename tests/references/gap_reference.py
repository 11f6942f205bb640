"""Slow reference of the averaging gap over the decrease, in float64."""

import numpy as np


def gap_reference(values, gaps, noise, part):
    """log10 of the gap over the decrease, or None where there are too few.

    Lists of a mean a window, and of its averaging gap, or None where it was not
    measured; ``noise`` is the standard error of a mean, and ``part`` what a window
    makes up of the time, or None if all are alike.
    """
    measured = [gap for gap in gaps if gap is not None]
    if min(len(values), len(measured)) < 12:
        return None

    def average(entries, scale, when):
        mean = entries[0]
        for count, (k, entry) in enumerate(zip(when, entries, strict=True), start=1):
            share = 1.0 / (k + 1) if part is None else part
            mean += min(max(1.0 / count, scale * share), 1.0) * (entry - mean)
        return mean

    when = range(len(values))
    decrease = average(values, 1.28, when) - average(values, 3.2, when)
    weights = np.array([1.28, 3.2]) * (1.0 / len(values) if part is None else part)
    decrease += 2.0 * noise * np.sqrt(np.sum(weights / (2.0 - weights)))
    are_measured = [k for k, gap in enumerate(gaps) if gap is not None]
    gap = average(measured, 3.2, are_measured)
    if gap <= 0.0:
        return -1.5
    return float(np.clip(np.log10(gap / max(decrease, 1e-30)), -1.5, 1.5))
