"""Slow reference of learned: the trials, pooled periods, features, the network."""

import math

import numpy as np

from tests.controllers.features_reference import FeaturesReference
from tests.controllers.windows_reference import Window


def act_reference(weights, seen):
    hidden = np.tanh(seen @ np.float64(weights.hidden) + weights.hidden_bias)
    total = seen @ np.float64(weights.linear) + hidden @ np.float64(weights.output)
    return math.tanh(total + float(weights.output_bias))


class TrialsReference:
    """The climb, then short runs; ``is_over`` once they have an answer."""

    def __init__(self):
        self.edge, self.is_over = None, False
        self.is_upward = False
        self.tops, self.losses = [], []

    def __call__(self, features, noise_before, windows_before, window, log_scale):
        """The next log scale, and whether all is undone."""
        if self.edge is None:
            return self.climb(features, noise_before, windows_before, window, log_scale)
        return self.run(features, window.value)

    def climb(self, features, noise_before, windows_before, window, log_scale):
        values, is_finite = features.values, math.isfinite(window.value)
        windows = windows_before + is_finite
        first = values[0] if values else 0.0
        is_risen = windows > 2 and window.value > first + 8 * noise_before
        since = len(values) - 1 - int(np.argmin(values)) if values else 0
        fall = first - min(values, default=0.0)
        has_fallen = windows > 2 and fall > 6 * features.noise
        is_flat = has_fallen and since >= 2
        if not (is_risen or is_flat or windows > 30 or not is_finite):
            return log_scale + math.log(10) / (2 if has_fallen else 1), False
        self.edge = log_scale
        self.tops = [log_scale - math.log(10) / 2 * k for k in range(2, 7)]
        return self.tops[0], True

    def run(self, features, value):
        error, index = features.noise, len(self.losses)
        self.losses = [*self.losses, value]
        first, best = self.losses[0], min(self.losses)
        is_last = index == 4 or self.is_upward
        is_clear = math.isfinite(value) and value > first + 3 * error
        if is_clear and first == best and not is_last:
            self.is_upward = True
            self.tops[index + 1] = self.edge - math.log(10) / 2
        elif index >= 2 and math.isfinite(best) and value > best:
            is_last = True
        if not is_last:
            return self.tops[index + 1], True
        self.is_over = True
        if math.isinf(best):
            return self.tops[-1] + math.log(0.25), True
        first_value = features.values[0] if features.values else 0.0
        blur = error + 0.01 * max(first_value - best, 0.0)
        excess = [(loss - best) / blur for loss in self.losses]
        weights = [math.exp(-0.5 * e * e) for e in excess]
        best_top = np.average(self.tops[: index + 1], weights=weights)
        return best_top + math.log(0.25), True


def learned_reference(weights, total_steps=math.inf):
    features, trials = FeaturesReference(total_steps), TrialsReference()
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
        window = Window(value, means, errors, window.step)
        noise, windows = features.noise, features.undone + len(features.values)
        # Nothing is around that measures what noise costs.
        seen = np.append(features(window, log_scale), [0.0, 0.0])
        features.action = act_reference(weights, seen)
        if not trials.is_over:
            before = noise, windows
            log_scale, is_undone = trials(features, *before, window, log_scale)
            if is_undone:
                features.begin_again(noise, windows, log_scale + math.log(10))
                means, errors = [], []
        else:
            log_scale += math.log(2 if is_finite else 10) * features.action
            if features.blow_up is not None:
                log_scale = min(log_scale, features.blow_up - math.log(2))
        if not is_finite:
            means, errors = [], []
        open_windows = []
        period = math.floor(min(step / 32, total_steps / 64)) if trials.is_over else 0
        next_decision = step + period
        return log_scale

    return decide
