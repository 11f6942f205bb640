"""What holds of clip, warmup, anchored and then alike."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from optax_adaptive import (
    controllers,
    scale_by_controller,
    with_averaging,
)
from optax_adaptive._controller import Found
from tests.helpers.combined import (
    WISHES,
    asking,
    begun_with,
    differs_from_nothing,
    handing,
    requests_of,
    scales_of,
)
from tests.helpers.follow import follow
from tests.helpers.known_rules import done_after


def test_a_rule_asks_for_nothing_unless_it_says_so():
    for make in (controllers.constant, controllers.plateau, controllers.bandit):
        assert differs_from_nothing(requests_of(make(), 1)[-1]) == {}


@pytest.mark.parametrize(
    "wrap",
    [
        lambda rule: controllers.clip(rule, 2.0),
        lambda rule: controllers.warmup(rule, 5),
        lambda rule: controllers.anchored(rule, asking(half_life=np.float32(0.1))),
        lambda rule: controllers.anchored(asking(half_life=np.float32(0.1)), rule),
    ],
)
def test_what_a_rule_asks_for_inside_is_asked_for_outside(wrap):
    first, later = requests_of(wrap(asking(**WISHES)), 1)
    assert differs_from_nothing(first) == {}
    assert differs_from_nothing(later) == WISHES


def test_names_say_what_there_is_inside():
    plateau, bandit = controllers.plateau(), controllers.bandit()
    assert controllers.clip(plateau, 2.0).name == "clip-plateau"
    assert controllers.warmup(plateau, 5).name == "warmup-plateau"
    assert controllers.anchored(plateau, bandit).name == "anchored-plateau-bandit"
    done = controllers.range_test()
    assert controllers.then(done, plateau).name == "then-range_test-plateau"
    for name, make in controllers.REGISTRY.items():
        assert make().name == name


def test_what_one_inside_needs_the_whole_needs():
    rule, hold = asking(needs=("with_rollback",)), controllers.constant()
    both = asking(needs=("with_averaging", "with_rollback"))
    for outer, needs in (
        (controllers.clip(rule, 2.0), rule.needs),
        (controllers.warmup(rule, 5), rule.needs),
        (controllers.warmup(hold, 5), ()),
        (controllers.anchored(hold, rule), rule.needs),
        (controllers.anchored(rule, hold), rule.needs),
        (controllers.anchored(hold, hold), ()),
        (controllers.then(done_after(2), rule), rule.needs),
        (controllers.then(controllers.search(), hold), controllers.search().needs),
    ):
        assert outer.needs == needs
    assert set(controllers.anchored(rule, both).needs) == set(both.needs)
    tx = scale_by_controller(controllers.clip(rule, 2.0))
    with pytest.raises(ValueError, match="'clip-asking' does not work without with_"):
        tx.update(jnp.ones(()), tx.init(None), value=1.0)


def test_the_window_is_as_short_as_one_inside_wants_it():
    rule, hold = asking(own_size=5), controllers.constant()
    for outer, size in (
        (controllers.clip(rule, 2.0), 5),
        (controllers.warmup(rule, 5), 5),
        (controllers.warmup(hold, 5), 20),
        (controllers.anchored(rule, hold), 5),
        (controllers.anchored(hold, hold), 20),
        (controllers.then(done_after(2), rule), 5),
    ):
        assert outer.accumulation_size == size


def test_a_state_of_another_composition_is_refused():
    ours = scale_by_controller(controllers.clip(controllers.plateau(), 2.0))
    theirs = scale_by_controller(controllers.plateau())
    with pytest.raises(ValueError, match="must be 'clip-plateau-32-v"):
        ours.update(jnp.ones(()), theirs.init(None), value=1.0)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda rule: rule,
        lambda rule: controllers.clip(rule, 2.0),
        lambda rule: controllers.warmup(rule, 1),
        lambda rule: controllers.anchored(rule, controllers.constant()),
    ],
)
def test_what_a_search_has_found_reaches_the_rule_inside(wrap):
    numbers = jnp.float32([0.5, 3.0, 0.1])
    known = Found(*numbers, jnp.zeros((), jnp.bool_))
    rule, seen = begun_with()
    scales_of(controllers.then(handing(known), wrap(rule)))
    jax.effects_barrier()
    assert len(seen) == 5
    for found in seen:
        np.testing.assert_allclose(found[:3], numbers, rtol=1e-5)
        assert not found.has_noise


@pytest.mark.parametrize(
    "second",
    [
        controllers.anchored(controllers.constant(), controllers.bandit()),
        controllers.anchored(controllers.constant(), controllers.constant()),
        controllers.warmup(controllers.constant(), 1),
        controllers.warmup(
            controllers.anchored(controllers.constant(), controllers.constant()), 1
        ),
    ],
)
def test_what_wraps_goes_on_from_what_it_is_handed(second):
    rule = controllers.then(done_after(3), second)
    np.testing.assert_allclose(scales_of(rule, range(9))[2:], 8.0, rtol=1e-4)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda rule: rule,
        lambda rule: controllers.warmup(rule, 1),
        lambda rule: controllers.anchored(rule, controllers.constant()),
    ],
)
@pytest.mark.parametrize("bounds", [(1e-8, 2.0), (0.5, 1e8)])
def test_no_wrapper_runs_on_past_a_bound(wrap, bounds):
    rule = wrap(controllers.bold_driver(1.5))
    low, high = bounds
    # Towards the bound for long, then back: a rise halves the rate, a fall raises it.
    values = 100.0 - np.arange(40) if high == 2.0 else 100.0 + np.arange(40)
    back = values[-1] + (1 if high == 2.0 else -1) * np.arange(1.0, 5)
    tx = scale_by_controller(rule, accumulation_size=1, min_scale=low, max_scale=high)
    scales = follow(tx)(np.float32([*values, *back]))[0]
    inner = scales[-3:]
    assert np.all((inner > low) & (inner < high)), inner


@pytest.mark.usefixtures("standard_promotion")
@pytest.mark.parametrize(
    "make",
    [
        lambda factor: controllers.then(
            controllers.range_test(stop=1.0), controllers.plateau(factor=factor)
        ),
        lambda factor: controllers.warmup(controllers.plateau(factor=factor), 5),
        lambda factor: controllers.anchored(
            controllers.plateau(factor=factor), controllers.plateau(factor=factor)
        ),
    ],
)
def test_a_hyperparameter_may_be_of_float64(make):
    with jax.enable_x64(True):
        scales = [scales_of(make(factor)) for factor in (np.float64(0.5), 0.5)]
    np.testing.assert_array_equal(*scales)


def test_the_fraction_of_an_average_may_be_of_float64():
    def make(fraction):
        return with_averaging(
            optax.chain(optax.sgd(0.1), scale_by_controller(controllers.trend())),
            fraction=fraction,
        )

    with jax.enable_x64(True):
        params = jnp.ones(3)
        tx = optax.inject_hyperparams(make)(fraction=0.05)
        state = tx.init(params)
        updates, _ = tx.update(params, state, params, value=jnp.float32(1.0))
    assert updates.dtype == params.dtype


def test_a_warm_up_inside_is_one_outside():
    asked = [asking(probe=probe) for probe in (-1, 0, 2)]
    for pair, probe in ((asked[:2], -1), (asked[1:], 2), (asked[::2], 2)):
        assert requests_of(controllers.anchored(*pair), 1)[-1].probe == probe
