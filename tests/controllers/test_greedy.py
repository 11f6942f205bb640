"""greedy against recorded runs of transformers' GreedyLR and a slow reference."""

import numpy as np
import pytest

from optax_adaptive import controllers, scale_by_controller
from optax_adaptive._controller import nothing_found
from tests.helpers.follow import follow
from tests.references.greedy_reference import greedy_reference
from tests.references.traces.read import read
from tests.references.windows_reference import assert_follows

TRACES = read("transformers")


def transformers_like(
    mode="min",
    threshold=1e-6,
    threshold_mode="abs",
    min_lr=1e-3,
    max_lr=1.0,
    smooth=False,
    window_size=50,
    reset_start=500,
    **rest,
):
    margins = {
        "abs": dict(rtol=0.0, atol=threshold),
        "rel": dict(rtol=threshold, atol=0.0),
    }
    rule = controllers.greedy(
        min_scale=min_lr,
        max_scale=max_lr,
        smoothing=window_size if smooth else 1,
        reset_after=reset_start,
        **margins[threshold_mode],
        **rest,
    )
    return scale_by_controller(rule, accumulation_size=1, window=50, mode=mode)


@pytest.mark.parametrize("traces", TRACES.values(), ids=TRACES)
def test_decides_as_transformers(traces):
    run = follow(transformers_like(**traces[0].settings))
    for trace in traces:
        np.testing.assert_allclose(run(trace.metrics)[0], trace.scales, rtol=2e-5)


@pytest.mark.parametrize(
    "settings",
    [
        dict(factor=0.8, patience=1),
        dict(factor=0.7, patience=1, cooldown=2, warmup=1, rtol=0.01, smoothing=4),
        dict(factor=0.5, patience=1, min_scale=0.2, reset_after=2, cooldown=1),
    ],
)
def test_matches_the_reference(settings):
    tx = scale_by_controller(controllers.greedy(**settings), accumulation_size=2)
    assert_follows(tx, lambda: greedy_reference(**settings), 2)


def test_a_nan_does_not_poison_the_smoothing():
    values = np.linspace(2, 1, 20, dtype=np.float32)
    values[3] = np.nan
    rule = controllers.greedy(patience=1, smoothing=5)
    scales, _ = follow(scale_by_controller(rule, accumulation_size=1))(values)
    assert scales[-1] > scales[3]


def test_after_a_search_bounds_and_resets_refer_to_the_rate_found():
    rule = controllers.greedy(patience=0, min_scale=0.5, reset_after=1)
    found = nothing_found()._replace(log_scale=np.float32(np.log(1e-4)))
    init = rule.init
    begun = rule._replace(
        init=lambda: rule.begin(init(), found), initial_log_scale=np.log(1e-4)
    )
    run = follow(scale_by_controller(begun, accumulation_size=1))
    scales = run(np.full(40, 1.0))[0]
    # The first window is an improvement, all others are none.
    assert 0.499e-4 <= scales.min() <= 0.53e-4
    np.testing.assert_allclose(scales.max(), 1e-4 / 0.95, rtol=1e-4)
    assert np.sum(np.isclose(scales, 1e-4, rtol=1e-4, atol=0.0)) >= 2  # it restarts
