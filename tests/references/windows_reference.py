"""Slow reference of what a rule is shown: windows of a stream, one at a time."""

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from tests.helpers.follow import follow
from tests.helpers.streams import STREAMS


class Window(NamedTuple):
    """A closed window; the lists hold it and the windows before it."""

    value: float  # inf if no value was finite
    means: list[float]  # of the finite windows, oldest first
    errors: list[float]  # their standard errors
    step: int  # index of the value that closed the window


def windows_reference(values, accumulation_size=1) -> Iterator[Window]:
    kept, nonfinite_run = [], 0
    means, errors = [], []
    for step, value in enumerate(np.asarray(values, np.float64)):
        if math.isfinite(value):
            kept, nonfinite_run = [*kept, value], 0
        else:
            nonfinite_run += 1
        if len(kept) == accumulation_size:
            means = [*means, np.mean(kept)]
            if accumulation_size > 1:
                error = np.std(kept, ddof=1) / math.sqrt(accumulation_size)
            else:
                changes = np.diff(means)
                error = math.sqrt(np.mean(changes**2) / 2) if len(changes) else 0.0
            errors = [*errors, error]
            yield Window(means[-1], means, errors, step)
            kept, nonfinite_run = [], 0
        elif nonfinite_run == accumulation_size:
            yield Window(math.inf, means, errors, step)
            kept, nonfinite_run = [], 0


def assert_follows(tx, make_rule, accumulation_size=1, initial_scale=1.0, rtol=1e-4):
    """Compares ``tx`` on every stream with ``rule(window, log_scale)``.

    ``make_rule`` makes a slow rule, which returns the new log scale of each window.
    """
    run = follow(tx)
    for name, values in STREAMS.items():
        rule, scale, expected = make_rule(), initial_scale, []
        closed = {w.step: w for w in windows_reference(values, accumulation_size)}
        for step in range(len(values)):
            if step in closed:
                scale = math.exp(rule(closed[step], math.log(scale)))
                scale = min(max(scale, 1e-8), 1e12)
            expected.append(scale)
        np.testing.assert_allclose(run(values)[0], expected, rtol=rtol, err_msg=name)
        assert len(set(expected)) > 1, f"nothing happens on {name}"
