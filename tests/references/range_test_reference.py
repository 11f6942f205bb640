"""Slow reference of range_test."""

import math


def range_test_reference(
    stop=1e5, growth=2**0.5, idle_growth=10**0.5, backoff=8.0, **_
):
    first = best = None  # (value, error)
    has_descended, is_suspect, is_done = False, False, False

    def decide(window, log_scale):
        nonlocal first, best, has_descended, is_suspect, is_done
        if is_done:
            return log_scale
        if math.isinf(window.value):
            is_done = True
            return log_scale - math.log(backoff)
        value, error = window.value, window.errors[-1]
        first = first or (value, error)
        spread = math.hypot(error, first[1])
        has_descended |= first[0] - value > 4 * spread + 0.02 * abs(first[0])
        if has_descended and best:
            is_bad = value > best[0] + 2 * math.hypot(error, best[1])
        else:
            is_bad = value - first[0] > 10 * spread + 0.5 * abs(first[0])
        if best is None or value < best[0]:
            best = value, error
        if (is_bad and is_suspect) or log_scale >= math.log(stop) - 1e-6:
            is_done = True
            return log_scale - math.log(backoff)
        is_suspect = is_bad
        if is_bad:
            return log_scale
        factor = growth if has_descended else idle_growth
        return min(log_scale + math.log(factor), math.log(stop))

    return decide
