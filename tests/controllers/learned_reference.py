"""Slow reference of learned: pooled periods, features, the network, the move."""

import math

import numpy as np

from tests.controllers.features_reference import FeaturesReference
from tests.controllers.windows_reference import Window


def act_reference(weights, seen):
    hidden = np.tanh(seen @ np.float64(weights.hidden) + weights.hidden_bias)
    total = seen @ np.float64(weights.linear) + hidden @ np.float64(weights.output)
    return math.tanh(total + float(weights.output_bias))


def learned_reference(weights, total_steps=math.inf):
    features = FeaturesReference(total_steps)
    open_windows, means, errors = [], [], []
    next_decision = 0.0

    def decide(window, log_scale):
        nonlocal open_windows, means, errors, next_decision
        is_finite = math.isfinite(window.value)
        step = window.step + 1
        if is_finite:
            open_windows = [*open_windows, (window.means[-1], window.errors[-1])]
            if step < next_decision:
                return log_scale
            mean, error = np.mean(open_windows, axis=0)
            means = [*means, mean]
            errors = [*errors, error / math.sqrt(len(open_windows))]
        value = means[-1] if is_finite else math.inf
        seen = features(Window(value, means, errors, window.step), log_scale)
        features.action = act_reference(weights, seen)
        bound = 10
        if is_finite:
            hidden = 4 * features.noise / abs(features.values[0])  # no fall is seen
            bound = min(max(0.4 / hidden, 2), 10) if hidden else 10
        if is_finite and features.has_descended and features.share < 0.5:
            bound = 2
        log_scale += math.log(bound) * features.action
        if features.blow_up is not None:
            log_scale = min(log_scale, features.blow_up - math.log(2))
        if not is_finite:
            means, errors = [], []
        open_windows = []
        next_decision = step + math.floor(min(step / 32, total_steps / 64))
        return log_scale

    return decide
