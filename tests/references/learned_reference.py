"""Slow reference of learned from the rate found on: windows, features, factor."""

import math

import numpy as np

from tests.references.features_reference import FeaturesReference
from tests.references.gap_reference import gap_reference
from tests.references.update_sizes_reference import update_sizes_reference
from tests.references.windows_reference import Window


def act_reference(weights, seen):
    hidden = np.tanh(seen @ np.float64(weights.hidden) + weights.hidden_bias)
    total = seen @ np.float64(weights.linear) + hidden @ np.float64(weights.output)
    return math.tanh(total + float(weights.output_bias))


class LearnedReference:
    """Is handed each step, and says the log factor from then on."""

    def __init__(self, weights, log_scale, first_value=None, deviation=0.0, total=None):
        self.weights, self.total = weights, math.inf if total is None else total
        self.features = FeaturesReference(self.total)
        self.features.begin(
            *(first_value, deviation / math.sqrt(5), 16, log_scale + math.log(10)),
        )
        self.log_scale, self.size, self.step = log_scale, 5, 0
        self.open, self.open_gaps, self.bad_in_a_row = [], [], 0
        self.means, self.errors = [], []  # of windows since the params were others
        self.values, self.gaps = [], []  # the same, spikes cut, for the averaging gap
        self.update_sizes = []

    def __call__(self, value, gap, update_size):
        self.step += 1
        if math.isfinite(value):
            self.open, self.bad_in_a_row = [*self.open, value], 0
            self.open_gaps += [] if gap is None else [gap]
        else:
            self.bad_in_a_row += 1
        if max(len(self.open), self.bad_in_a_row) == self.size:
            self.decide(len(self.open) == self.size, update_size)
            self.size = max(math.floor(min(self.step / 32, self.total / 64)), 5)
            self.open, self.open_gaps, self.bad_in_a_row = [], [], 0
        return self.log_scale

    def decide(self, is_finite, update_size):
        shrunk_before = self.shrunk()
        self.update_sizes += [update_size] if is_finite else []
        if is_finite:
            self.means += [np.mean(self.open)]
            self.errors += [np.std(self.open, ddof=1) / math.sqrt(self.size)]
        value = self.means[-1] if is_finite else math.inf
        window = Window(value, self.means, self.errors, self.step - 1)
        log_rate = self.log_scale + shrunk_before
        seen = np.append(self.features(window, log_rate), self.gap_features(is_finite))
        action = self.features.action = act_reference(self.weights, seen)
        log_rate += math.log(2 if is_finite else 10) * action
        log_rate = min(log_rate, self.features.blow_up - math.log(2))
        self.log_scale = log_rate - self.shrunk()
        if not is_finite:
            self.means, self.errors, self.values, self.gaps = [], [], [], []

    def gap_features(self, is_finite):
        if is_finite:
            self.values += [self.features.values[-1]]
            self.gaps += [np.mean(self.open_gaps) if self.open_gaps else None]
        log_ratio = gap_reference(self.values, self.gaps, self.features.noise, 1 / 32)
        return max(log_ratio or 0.0, 0.0), min(log_ratio or 0.0, 0.0)

    def shrunk(self):
        return [0.0, *update_sizes_reference(self.update_sizes)][-1]
