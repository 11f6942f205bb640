"""plateau against the recorded schedulers, optax itself, and a slow reference."""

import jax
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st

from optax_adaptive import controllers, scale_by_controller
from tests.helpers.follow import follow
from tests.references.plateau_reference import plateau_reference
from tests.references.traces.read import read
from tests.references.windows_reference import assert_follows

OPTAX, TORCH = read("optax"), read("torch")
NON_NEGATIVE = st.lists(
    st.floats(0, float(np.float32(1e36)), width=32), min_size=30, max_size=30
)


def optax_like(settings):
    settings = dict(settings)
    tx_settings = {
        name: settings.pop(name)
        for name in ("accumulation_size", "min_scale")
        if name in settings
    }
    tx_settings = {"accumulation_size": 1, "min_scale": 0.0} | tx_settings
    return scale_by_controller(controllers.plateau(**settings), **tx_settings)


def torch_like(factor, patience, mode, threshold=1e-4, threshold_mode="rel", **rest):
    margins = {"rel": dict(rtol=threshold), "abs": dict(rtol=0.0, atol=threshold)}
    rule = controllers.plateau(
        factor=factor,
        patience=patience + 1,
        cooldown=rest.get("cooldown", 0),
        **margins[threshold_mode],
    )
    return scale_by_controller(
        rule, accumulation_size=1, mode=mode, min_scale=rest.get("min_lr", 0.0)
    )


@pytest.mark.parametrize("traces", OPTAX.values(), ids=OPTAX)
def test_decides_as_optax(traces):
    run = follow(optax_like(traces[0].settings))
    for trace in traces:
        np.testing.assert_allclose(run(trace.metrics)[0], trace.scales, rtol=1e-5)


@pytest.mark.parametrize("traces", TORCH.values(), ids=TORCH)
def test_decides_as_torch(traces):
    run = follow(torch_like(**traces[0].settings))
    for trace in traces:
        # PyTorch takes no step smaller than 1e-8.
        np.testing.assert_allclose(
            run(trace.metrics)[0], trace.scales, rtol=1e-5, atol=2e-8
        )


@jax.jit
def optax_scales(values):
    reference = optax.contrib.reduce_on_plateau(factor=0.5, patience=2, cooldown=1)

    def step(state, value):
        _, state = reference.update(value, state, value=value)
        return state, state.scale

    with jax.numpy_dtype_promotion("standard"):  # it mixes int32 and float32
        return jax.lax.scan(step, reference.init(values[0]), values)[1]


OURS = follow(optax_like(dict(factor=0.5, patience=2, cooldown=1)))


@given(NON_NEGATIVE)
def test_decides_as_optax_on_any_non_negative_stream(values):
    values = np.float32(values)
    np.testing.assert_allclose(OURS(values)[0], optax_scales(values), rtol=1e-5)


@pytest.mark.parametrize("accumulation_size", [1, 3])
@pytest.mark.parametrize("criterion", ["best", "slope"])
def test_matches_the_reference(criterion, accumulation_size):
    settings = dict(
        factor=0.7, patience=3, rtol=0.01, atol=0.02, cooldown=2, criterion=criterion
    )
    rule = controllers.plateau(**settings)
    assert_follows(
        scale_by_controller(rule, accumulation_size=accumulation_size),
        lambda: plateau_reference(**settings),
        accumulation_size,
    )


@pytest.mark.parametrize("place", [5, 15, 25])
def test_the_slope_criterion_forgives_a_spike(place):
    # One lucky window makes all that follow look bad to the best-so-far criterion.
    values = np.linspace(3, 2, 40, dtype=np.float32)
    values[place] = 1.0
    scales = {
        criterion: follow(
            scale_by_controller(
                controllers.plateau(0.5, patience=10, criterion=criterion),
                accumulation_size=1,
            )
        )(values)[0][-1]
        for criterion in ("best", "slope")
    }
    assert scales["best"] < 1.0
    assert scales["slope"] == 1.0


def test_a_flat_negative_metric_is_a_plateau():
    # optax's margin has the wrong sign there: each equal value would improve.
    values = np.full(8, -3, np.float32)
    scales, _ = follow(optax_like(dict(factor=0.5, patience=3)))(values)
    np.testing.assert_allclose(scales[-1], 0.25)


@pytest.mark.parametrize("window", [3, 4, 5])
def test_the_slope_criterion_acts_on_as_few_windows_as_are_kept(window):
    rule = controllers.plateau(patience=3, criterion="slope")
    tx = scale_by_controller(rule, accumulation_size=1, window=window)
    scales, _ = follow(tx)(np.float32(1 + np.random.default_rng(0).normal(0, 0.1, 80)))
    assert scales[-1] < 1e-2
