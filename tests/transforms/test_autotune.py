"""autotune: finds the rate from anywhere, and is a composition of public parts."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import optax_adaptive
from optax_adaptive import controllers
from optax_adaptive.signals import window_statistics
from optax_adaptive.state.controller_state import is_controller_state
from optax_adaptive.state.packing import overwrite, unpack
from tests.helpers.regression import STEPS, noisy, plain, student, teacher, train, wraps

pytestmark = pytest.mark.usefixtures("standard_promotion")


OPTIMIZERS = {
    "adam": optax.adam,
    "adamw": lambda rate: optax.adamw(rate, weight_decay=0.01),
    "sgd": optax.sgd,
    "momentum": lambda rate: optax.sgd(rate, momentum=0.9),
    "lion": optax.lion,
    "adafactor": lambda rate: optax.adafactor(rate, min_dim_size_to_factor=8),
    "muon": optax.contrib.muon,
    "adam without momentum": lambda rate: optax.adam(rate, b1=0.0),
}


OTHERS = [name for name in OPTIMIZERS if not name.startswith("adam")] + ["adamw"]


@pytest.mark.parametrize(
    ("name", "total_steps", "interpolate"),
    [
        ("adam", STEPS, False),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in (
                ("adam", None, False),
                ("adam without momentum", STEPS, True),
                *((name, None, False) for name in OTHERS),
                ("sgd", None, True),
            )
        ),
    ],
)
def test_every_optimizer_learns_from_any_base_rate(name, total_steps, interpolate):
    def run(rate):
        base = optax.chain(OPTIMIZERS[name](1.0), optax.scale(rate))
        tx = optax_adaptive.autotune(
            base, total_steps=total_steps, interpolate=interpolate
        )
        final, losses, state, _ = train(tx, plain)
        numbers = optax_adaptive.summary(state)
        return final / losses[0], rate * numbers["found_scale"], numbers["phase"]

    progress, found, phase = jax.jit(lambda rates: jax.lax.map(run, rates))(
        jnp.array([1e-7, 1e-2, 10.0])
    )
    assert (phase == 3).all()
    assert (progress < 0.02).all()
    np.testing.assert_allclose(found, found[0], rtol=1e-3)  # as the docstring says


def test_bfloat16_params():
    tx = optax_adaptive.autotune(optax.adam(1.0), total_steps=STEPS)
    final, losses, state, params = train(tx, plain, dtype=jnp.bfloat16)
    assert final < 0.2 * float(losses[0])
    assert params["out"].dtype == jnp.bfloat16
    numbers = optax_adaptive.summary(state)
    scalars = (numbers["lr_scale"], numbers["found_scale"])
    assert all(scalar.dtype == jnp.float32 for scalar in scalars)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_x64_mode(dtype):
    tx = optax_adaptive.autotune(optax.sgd(1.0), total_steps=STEPS)
    with jax.enable_x64(True):
        final, losses, state, params = train(tx, plain, dtype=dtype)
    assert float(final) < 0.2 * float(losses[0])
    assert params["out"].dtype == dtype
    assert optax_adaptive.lr_scale(state).dtype == jnp.float32


def test_complex_params():
    target = jnp.array([1j, 1.0 + 2j, -1.0])
    tx = optax_adaptive.autotune(optax.sgd(1e-3), total_steps=STEPS)

    def loss_fn(params):
        return jnp.sum(jnp.square(jnp.abs(params - target)))

    def step(carry, _):
        params, state = carry
        loss, grads = jax.value_and_grad(loss_fn)(params)
        updates, state = tx.update(grads.conj(), state, params, value=loss)
        return (optax.apply_updates(params, updates), state), loss

    params = jnp.zeros(3, jnp.complex64)
    (params, state), losses = jax.lax.scan(
        step, (params, tx.init(params)), length=STEPS
    )
    assert loss_fn(optax_adaptive.eval_params(state, params)) < 1e-3 * losses[0]


@pytest.mark.parametrize("params", [{}, {"a": jnp.zeros((0, 3))}])
def test_params_without_elements(params):
    tx = optax_adaptive.autotune(optax.sgd(0.1))
    updates, _ = tx.update(params, tx.init(params), params, value=1.0)
    assert jax.tree.structure(updates) == jax.tree.structure(params)


def without_rate(state):
    """Without the one thing that autotune alone hands to its rule."""

    def visit(node):
        if not is_controller_state(node):
            return node
        ((name, words),) = node.controller_memory.items()
        statistics = unpack(window_statistics.LAYOUT, words)
        none = jnp.float32(0.0)
        statistics = statistics._replace(
            least_first_update=none, most_first_update=none
        )
        return node._replace(controller_memory={name: overwrite(words, statistics)})

    return jax.tree.map(visit, state, is_leaf=is_controller_state)


@pytest.mark.parametrize("interpolate", [False, True])
def test_it_is_a_composition_of_public_parts(interpolate):
    tx = optax_adaptive.autotune(
        optax.sgd(1.0), total_steps=STEPS, interpolate=interpolate
    )
    same = wraps(controllers.tuned(STEPS, interpolate), interpolate)
    *_, state, params = train(tx, noisy)
    *_, expected, expected_params = train(same, noisy)
    jax.tree.map(np.testing.assert_array_equal, params, expected_params)
    jax.tree.map(
        np.testing.assert_array_equal, without_rate(state), without_rate(expected)
    )


def requests(rule):
    """The rule, and the list of what it asks for after each decision."""
    asked = []

    def update_fn(observation, state):
        log_scale, state = rule.update(observation, state)
        seen = (observation, rule.request(state))
        jax.debug.callback(lambda *now: asked.append(now), *seen, ordered=True)
        return log_scale, state

    return rule._replace(update=update_fn), asked


@pytest.mark.parametrize("interpolate", [False, True])
def test_what_the_half_life_of_the_average_is(interpolate):
    """A tenth of the steps, or half to twice as much; with an interpolation a fifth,
    or up to twice as much.
    """
    rule, asked = requests(controllers.tuned(1000, interpolate))
    train(wraps(rule, interpolate), noisy, steps=1000)
    jax.effects_barrier()
    steps = np.array([int(observation.step) for observation, _ in asked])
    factors = np.array([float(request.half_life) for _, request in asked])
    assert (factors > (0.999 if interpolate else 0.499)).all()
    assert (factors < 2.001).all()
    assert (factors[steps < 200] == 1.0).all()
    differs = abs(factors[steps > 500] - 1.0) > 1e-6
    assert differs.any() if interpolate else differs.all()


def test_the_slope_is_that_on_the_way_to_the_end_of_the_warm_up():
    rule, asked = requests(controllers.tuned(1000))
    tx = wraps(rule)
    key = jax.random.key(0)
    params = student(key)

    def step(carry, key):
        params, state = carry
        loss, grads = jax.value_and_grad(noisy)(params, teacher(key), key)
        updates, state = tx.update(grads, state, params, value=loss)
        moved = optax.apply_updates(params, updates)
        kept = state.inner_state.snapshot.snapshot_params
        return (moved, state), (params, grads, state.averaging.averaged_params, kept)

    keys = jax.random.split(jax.random.fold_in(key, 1), 1000)
    start = params, tx.init(params)
    _, (points, grads, averages, kept) = jax.lax.scan(step, start, keys)
    jax.effects_barrier()
    judged = [
        (int(observation.step), observation)
        for observation, request in asked
        if not request.probe and observation.has_averaging_gap
    ]
    # Until then the copy is kept: of a block around that the slope is not looked at.
    until = max(int(r.keep_until) for _, r in asked if r.keep_until < 2**31 - 1)
    (warm,) = [int(seen.step) for seen, request in asked if request.snapshot]
    early = [
        (at, seen) for at, seen in judged if seen.return_slope and warm < at < until
    ]
    assert len(early) >= 2
    for at, _ in early:
        jax.tree.map(
            lambda copy, average, at=at: np.testing.assert_array_equal(
                copy[at], average[warm + 1]
            ),
            *(kept, averages),
        )
    # On probation alone: then copies are taken anew.
    assert not any(seen.return_slope for at, seen in judged if at > 700)

    # The window that ended with the last of them; nothing was spiky enough to skip.
    at, seen = early[-1]
    size = at - max(before for before, _ in judged if before < at)
    window = slice(at + 1 - size, at + 1)

    def mean_product(ahead):
        products = jax.tree.map(
            lambda way, grad: np.sum(
                way[window] * grad[window], axis=tuple(range(1, way.ndim))
            ),
            *(ahead, grads),
        )
        return np.mean(sum(jax.tree.leaves(products)))

    slope = mean_product(jax.tree.map(np.subtract, kept, averages))
    gap = mean_product(jax.tree.map(np.subtract, points, averages))
    np.testing.assert_allclose(seen.return_slope, slope, rtol=1e-4)
    np.testing.assert_allclose(seen.averaging_gap, gap, rtol=1e-4)


def test_summary_and_lr_scale():
    tx = optax_adaptive.autotune(optax.sgd(0.1), total_steps=STEPS)
    params = student(jax.random.key(0))
    numbers = optax_adaptive.summary(tx.init(params))
    assert int(numbers["phase"]) == 0 and float(numbers["found_scale"]) == 0.0
    _, _, state, _ = train(tx, plain, steps=200)
    numbers = optax_adaptive.summary(state)
    assert int(numbers["phase"]) == 3 and int(numbers["rollbacks"]) == 0
    assert float(numbers["found_scale"]) > 0
    assert float(optax_adaptive.lr_scale(state)) == float(numbers["lr_scale"])
    # Every value of the search, warm-up included, is a window, and then blocks are.
    assert 150 < int(numbers["windows"]) < 200


@pytest.mark.parametrize("value", [1, 1.0, np.float64(1.0), jnp.bfloat16(1.0)])
def test_any_scalar_is_a_value(value):
    tx = optax_adaptive.autotune(optax.sgd(0.1))
    params = jnp.ones(2)
    _, state = tx.update(params, tx.init(params), params, value=value)
    assert float(optax_adaptive.summary(state)["last_value"]) == 1.0


def test_bad_input():
    for total_steps in (-1, 0, 100):
        with pytest.raises(ValueError, match=r"total_steps must be in \[200, inf\)"):
            optax_adaptive.autotune(optax.sgd(0.1), total_steps=total_steps)
    with pytest.raises(ValueError, match="total_steps must be an integer"):
        optax_adaptive.autotune(optax.sgd(0.1), total_steps=300.5)  # type: ignore
    tx = optax_adaptive.autotune(optax.sgd(0.1))
    params = jnp.ones(2)
    state = tx.init(params)
    with pytest.raises(TypeError, match="`value`"):
        tx.update(params, state, params)
    with pytest.raises(ValueError, match="scalar"):
        tx.update(params, state, params, value=jnp.ones(2))
    with pytest.raises(ValueError, match="params"):
        tx.update(params, state, value=1.0)
