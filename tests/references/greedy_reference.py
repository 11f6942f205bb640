"""Slow reference of greedy."""

import math

import numpy as np


def greedy_reference(
    factor=0.95,
    patience=10,
    rtol=0.0,
    atol=1e-6,
    cooldown=0,
    warmup=0,
    min_scale=1e-3,
    max_scale=10.0,
    smoothing=1,
    reset_after=500,
):
    best, good, bad, cooling, warming = math.inf, 0, 0, 0, 0
    reset_left, first_window = reset_after, 0

    def decide(window, log_scale):
        nonlocal best, good, bad, cooling, warming, reset_left, first_window
        value = math.inf
        if math.isfinite(window.value):
            value = np.mean(window.means[first_window:][-smoothing:])
        if cooling or warming:
            cooling, warming = (cooling - 1, warming) if cooling else (0, warming - 1)
            good = bad = 0
            return log_scale
        margin = 0.0 if math.isinf(best) else rtol * abs(best) + atol
        if math.isfinite(value) and value < best - margin:
            best, good, bad = value, good + 1, 0
        else:
            good, bad = 0, bad + 1
        scale = math.exp(log_scale)
        if good > patience:
            good, warming, reset_left = 0, warmup, reset_after
            if scale < max_scale:
                scale = min(scale / factor, max_scale)
        elif bad > patience:
            bad, cooling = 0, cooldown
            if scale > min_scale:
                scale = max(scale * factor, min_scale)
            if scale <= min_scale * (1 + 1e-9):
                reset_left -= 1
                if reset_left <= 0:
                    best, scale, reset_left = math.inf, 1.0, reset_after
                    good, first_window = 0, len(window.means)
        return math.log(scale)

    return decide
