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
    is_trial = True

    def decide(window, log_scale):
        nonlocal open_windows, means, errors, next_decision, is_trial
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
        noise, windows = features.noise, features.undone + len(features.values)
        seen = features(Window(value, means, errors, window.step), log_scale)
        features.action = act_reference(weights, seen)
        if is_trial:
            is_risen = windows >= 2 and value > features.values[0] + 8 * noise
            since = len(features.values) - 1 - int(np.argmin(features.values or [0]))
            fall = features.values[0] - min(features.values) if windows >= 2 else 0.0
            has_fallen = fall > 6 * features.noise
            is_flat = has_fallen and since >= 2
            if is_risen or is_flat or windows >= 20 or not is_finite:
                features.begin_again(noise, windows, log_scale)
                is_trial, means, errors = False, [], []
                log_scale -= math.log(100)
            else:
                log_scale += math.log(10) / (2 if has_fallen else 1)
        else:
            log_scale += math.log(2 if is_finite else 10) * features.action
            if features.blow_up is not None:
                log_scale = min(log_scale, features.blow_up - math.log(2))
            if not is_finite:
                means, errors = [], []
        open_windows = []
        next_decision = step + math.floor(min(step / 32, total_steps / 64))
        return log_scale

    return decide
