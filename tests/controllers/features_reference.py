"""Slow reference of the state features: float64, from all windows so far."""

import math

import numpy as np

from tests.controllers.slope_reference import slope_reference


def squash(x):
    return math.copysign(math.log1p(abs(x)), x)


def ratio(numerator, denominator):
    return numerator / denominator if denominator > 0 else 0.0


class FeaturesReference:
    """Keeps every window; the rates are given one a window, blow-ups included."""

    def __init__(self, total_steps=None):
        self.total_steps = total_steps
        self.action = 0.0
        self.descent = self.blow_up = None
        self.noise = self.fast = self.slow = 0.0

    def averages(self, means, errors):
        fast = slow = means[0]
        noise = 0.0
        for i, (mean, error) in enumerate(zip(means, errors, strict=True)):
            error = max(error, 1e-6 * abs(mean))
            noise = max(noise, error) if i < 2 else noise + 0.2 * (error - noise)
            fast, slow = fast + 0.4 * (mean - fast), slow + 0.1 * (mean - slow)
        return fast, slow, noise

    def __call__(self, window, log_scale):
        means, errors = window.means, window.errors
        is_blown_up = math.isinf(window.value)
        if is_blown_up:
            self.blow_up = min(log_scale, self.blow_up or math.inf)
        first, best = (means[0], min(means)) if means else (0.0, 0.0)
        if means and not is_blown_up:
            self.fast, self.slow, self.noise = self.averages(means, errors)
            is_low = max(self.fast + 4 * self.noise, means[-1]) < first
            if is_low and self.descent is None:
                self.descent = log_scale
        last = means[-1] if means else 0.0
        since = len(means) - 1 - int(np.argmin(means)) if means else 0
        has_change = len(means) > 1 and not is_blown_up
        change = means[-1] - means[-2] if has_change else 0.0
        unit = first - best + 2 * self.noise
        elapsed = remaining = 0.0
        if self.total_steps:
            elapsed = min((window.step + 1) / self.total_steps, 1.0)
            remaining = math.log(max(1 - elapsed, 0.02)) / 4

        above = 0.0 if self.descent is None else log_scale - self.descent
        near = 0.0
        if self.blow_up is not None:
            near = math.exp(min(log_scale - self.blow_up, 0) / 2)

        def slope(count):
            newest = means[-count:]
            z = slope_reference(newest)[1] if len(newest) >= 3 else 0.0
            return squash(z) / 2

        values = [
            slope(4),
            slope(8),
            squash(ratio(change, math.sqrt(2) * self.noise)) / 2,
            squash(ratio(3 * (self.fast - self.slow), unit)),
            squash(ratio(last - best, unit)),
            squash(ratio(first - best, self.noise)) / 4,
            float(self.descent is not None),
            math.log1p(since) / 2,
            math.log1p(len(means)) / 3,
            elapsed,
            remaining,
            float(self.total_steps is not None),
            self.action,
            above / math.log(100),
            near,
            float(is_blown_up),
        ]
        return np.clip(values, -4, 4)
