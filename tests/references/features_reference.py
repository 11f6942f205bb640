"""Slow reference of the state features: plain Python in float64, one window a call."""

import math

import numpy as np

from tests.references.slope_reference import slope_reference


def squash(x):
    return math.copysign(math.log1p(abs(x)), x)


def ratio(numerator, denominator):
    return numerator / denominator if denominator > 0 else 0.0


class FeaturesReference:
    """Is handed each window and the rate in force; ``action`` is set from outside."""

    def __init__(self, total_steps=math.inf):
        self.total_steps = total_steps
        self.action = 0.0
        self.values = []  # as remembered, wild ones cut
        self.searched = 0  # windows that a search counts as
        self.noise = self.fast = self.slow = 0.0
        self.was_blown_up = False
        self.has_descended = False
        self.blow_up = None
        self.progress_rate = 0.0  # mean log rate, each weighted by its new progress

    def take(self, window, log_scale):
        value, error = window.means[-1], window.errors[-1]
        first = self.values[0] if self.values else value
        is_early = self.searched + len(self.values) < 2
        if not is_early:
            unit = first - min(self.values) + self.noise
            value = min(value, first + 4 * unit)
            error = min(error, 4 * self.noise)
        error = max(error, 1e-6 * abs(value))
        if is_early:
            self.noise = max(self.noise, error)
        else:
            self.noise += 0.2 * (error - self.noise)
        if not self.values or self.was_blown_up:
            self.fast = self.slow = value
        else:
            self.fast += 0.4 * (value - self.fast)
            self.slow += 0.1 * (value - self.slow)
        fall = first - value
        is_low = min(fall, first - self.fast) > 4 * self.noise
        is_low |= fall > 5 * math.sqrt(2) * self.noise
        self.has_descended |= bool(is_low and not is_early)
        gained = max(min(self.values, default=value) - value, 0.0)
        share = gained / (first - value) if gained else 0.0
        self.progress_rate += share * (log_scale - self.progress_rate)
        self.values.append(value)

    def begin(self, first_value, noise, windows, too_high):
        """After a search; ``first_value`` is None if it has not said."""
        self.blow_up = too_high
        if first_value is not None:
            self.values, self.searched = [first_value], windows - 1
            self.fast = self.slow = first_value
            self.noise = noise

    def __call__(self, window, log_scale):
        is_blown_up = math.isinf(window.value)
        if is_blown_up:
            self.blow_up = min(log_scale, self.blow_up or math.inf)
        else:
            self.take(window, log_scale)
        self.was_blown_up = is_blown_up
        values = self.values
        first, best, last = (
            (values[0], min(values), values[-1]) if values else (0.0, 0.0, 0.0)
        )
        has_change = len(values) > 1 and not is_blown_up
        change = last - values[-2] if has_change else 0.0
        since = len(values) - 1 - int(np.argmin(values)) if values else 0
        unit = first - best + 2 * self.noise
        elapsed = min((window.step + 1) / self.total_steps, 1.0)
        above = log_scale - self.progress_rate if self.has_descended else 0.0
        near = 0.0
        if self.blow_up is not None:
            near = math.exp(min(log_scale - self.blow_up, 0) / 2)

        def slope(count):
            newest = window.means[-count:]
            z = slope_reference(newest) if len(newest) >= 3 else 0.0
            return squash(z) / 2

        numbers = [
            slope(4),
            slope(8),
            squash(ratio(change, math.sqrt(2) * self.noise)) / 2,
            squash(ratio(3 * (self.fast - self.slow), unit)),
            squash(ratio(last - best, unit)),
            squash(ratio(first - best, self.noise)) / 4,
            float(self.has_descended),
            math.log1p(since) / 2,
            math.log1p(self.searched + len(values)) / 3,
            elapsed,
            math.log(max(1 - elapsed, 0.02)) / 4,
            float(math.isfinite(self.total_steps)),
            self.action,
            above / math.log(100),
            near,
            float(is_blown_up),
        ]
        return np.clip(numbers, -4, 4)
