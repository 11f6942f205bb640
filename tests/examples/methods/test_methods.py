"""Every method trains, reads its rate, and survives donation of its state."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import optax_adaptive
from methods import optimizers, peers, registry, rules
from methods.hypergradient import hypergradient
from methods.method import Plan
from methods.random_actions import random_actions
from tests.helpers.slow import slow_but
from training import chunks, devices

STEPS = 100


def step(graphdef, optimizer, key, state, batch):
    """Least squares."""

    def loss_fn(params):
        return jnp.mean((batch["x"] @ params["w"] - batch["y"]) ** 2)

    loss, grads = jax.value_and_grad(loss_fn)(state.params)
    updates, opt_state = optimizer.update(
        grads, state.opt_state, state.params, value=loss
    )
    params = optax.apply_updates(state.params, updates)
    state = state._replace(step=state.step + 1, params=params, opt_state=opt_state)
    return state, {"loss": loss}


NAMES = (*registry.NAMES, *registry.EXPERIMENT)
# Those that search differ by settings alone.
QUICK = {*NAMES} - {*rules.AUTOTUNE, *rules.LEARNED} | {"autotune"}


@pytest.mark.parametrize("name", slow_but(QUICK, NAMES))
def test_method(name):
    build = partial(registry.build, name, "adam", steps=STEPS, steps_per_epoch=10)
    rate = registry.default_rate(name)
    method = build(rate)
    mesh = devices.make_mesh(8)
    params = {"w": jnp.ones(4)}
    state = chunks.init_state(method, params, nnx.State({}), mesh)
    run_chunk = chunks.make_run_chunk(step, None, build, rate, jax.random.key(0))
    rng = np.random.default_rng(0)
    x = rng.normal(size=(20, 8, 4)).astype(np.float32)
    chunk = {"x": x, "y": x @ np.arange(4, dtype=np.float32)}
    chunk = jax.device_put(chunk, devices.batched(mesh))
    state, first = run_chunk(state, chunk)
    state = state._replace(opt_state=method.observe(state.opt_state, 1.0))
    state, last = run_chunk(state, chunk)
    assert int(state.step) == 40
    if name not in ("autotune", *rules.LEARNED):  # which still search
        if name != "mechanize":  # which begins at 1e-8
            assert float(last["loss"]) < float(first["loss"])
    rate = float(last["learning_rate"])
    have_none = ("dog", "dowg", "dog_averaged", "dowg_averaged", "cocob")
    assert np.isnan(rate) == (name in have_none)
    assert not rate <= 0
    averaged = method.eval_params(state.opt_state, state.params)
    is_same = jax.tree.all(jax.tree.map(jnp.allclose, averaged, state.params))
    assert method.averages or is_same


@pytest.mark.parametrize("name", peers.PEERS)
def test_which_peers_take_the_base_optimizer(name):
    asked = []

    def base(rate):
        asked.append(rate)
        return optax.sgd(rate)

    peers.PEERS[name][1](Plan(base, base, 0.1, steps=STEPS, steps_per_epoch=10))
    assert bool(asked) == (name not in peers.OWN_OPTIMIZER)


def rates(name, steps=STEPS, **options):
    options = {"optimizer": "adam", "learning_rate": None} | options
    method = registry.build(name, steps=steps, steps_per_epoch=steps // 50, **options)
    return np.array([method.learning_rate(None, i) for i in range(steps)])


def test_schedules_are_those_of_the_plan():
    np.testing.assert_allclose(rates("fixed"), 0.001)
    expected = 0.01 * 0.1 ** (np.arange(STEPS) // 20)  # ten epochs of two steps
    np.testing.assert_allclose(rates("step"), expected, rtol=1e-5)
    expected = 0.01 * 0.1 ** (np.arange(STEPS) // 25 - 1).clip(0)  # from 50, from 75
    np.testing.assert_allclose(rates("step_50_75"), expected, rtol=1e-5)
    expected = 0.01 * (1 - np.arange(STEPS) / STEPS)
    np.testing.assert_allclose(rates("linear"), expected, rtol=1e-5)
    cosine = rates("cosine", steps=1000)
    np.testing.assert_allclose(cosine[[0, 500]], [0.01, 0.005], rtol=1e-3)
    assert 1e-6 <= cosine[-1] < 2e-6
    for name in ("warmup_linear", "wsd", "one_cycle"):
        curve = rates(name)
        assert curve[0] < 0.1 * curve.max() and curve[-1] < 0.2 * curve.max()
        np.testing.assert_allclose(curve.max(), 0.01, rtol=0.02)


@pytest.mark.parametrize("table", [optimizers.OPTIMIZERS, optimizers.WITHOUT_MOMENTUM])
def test_updates_are_proportional_to_the_rate(table):
    params, grads = jnp.ones((2, 2)), jnp.array([[0.3, -0.2], [0.1, 0.5]])
    for name, make in table.items():
        moves = []
        for rate in (0.1, 0.2):
            tx = optax.with_extra_args_support(make(rate))
            moves.append(tx.update(grads, tx.init(params), params)[0])
        np.testing.assert_allclose(moves[1], 2 * moves[0], rtol=1e-5, err_msg=name)
        assert np.abs(moves[0]).min() > 0, name


def test_without_momentum_nothing_goes_on_by_itself():
    params, grads = jnp.ones((2, 2)), jnp.array([[0.3, -0.2], [0.1, 0.5]])
    for name, make in optimizers.WITHOUT_MOMENTUM.items():
        tx = optax.with_extra_args_support(make(0.1))
        _, state = tx.update(grads, tx.init(params), params)
        moves, _ = tx.update(0 * grads, state, params)
        assert np.abs(moves).max() < 1e-3, name  # weight decay alone


def test_a_step_decay_by_fifths_ends_each_of_them():
    schedule = registry.build("step_fifths", "adam", 1.0, 351, 351)
    of_steps = [float(schedule.learning_rate(None, step)) for step in range(351)]
    ends = np.flatnonzero(np.diff(of_steps)) + 1
    np.testing.assert_array_equal(ends, [70, 140, 211, 281])
    np.testing.assert_allclose(of_steps[-1], 1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", rules.LEARNERS)
def test_a_seed_explores_in_its_own_way(name):
    def first_state(seed):
        options = {"steps": STEPS, "steps_per_epoch": 10, "seed": seed}
        method = registry.build(f"cosine+{name}", "adam", 0.1, **options)
        return jax.tree.leaves(method.optimizer.init(jnp.ones(2)))

    states = [first_state(seed) for seed in (0, 0, 1)]
    one, again, other = [[np.asarray(x) for x in state] for state in states]
    assert all(map(np.array_equal, one, again))
    assert not all(map(np.array_equal, one, other))


def test_random_actions_are_bounded_and_do_not_compound():
    rule = random_actions(alpha=1.2)
    step = jax.jit(lambda key: rule.update(None, key))
    key, seen = rule.init(), []
    for _ in range(60):
        log_scale, key = step(key)
        seen.append(round(float(log_scale), 2))
    assert set(seen) == {-1.2, -0.8, -0.4, 0.0, 0.4, 0.8, 1.2}


@pytest.mark.parametrize("name", [*rules.LEARNERS, "cosine+bandit"])
def test_learners_are_within_averaging(name):
    method = registry.build(name, "sgd", 0.1, STEPS, steps_per_epoch=10)
    params = jnp.ones(2)
    _, averaging = method.optimizer.init(params)
    np.testing.assert_array_equal(averaging.averaged_params, 0 * params)
    assert method.averages


PAIRS = {
    "constant_averaged": "fixed",
    "cosine_averaged": "cosine",
    "dog_averaged": "dog",
    "dowg_averaged": "dowg",
}


@pytest.mark.parametrize("name", PAIRS)
def test_averaging_changes_what_is_evaluated_alone(name):
    options = {"steps": STEPS, "steps_per_epoch": 2}
    averaged, plain = (
        registry.build(one, "sgd", 0.1, **options) for one in (name, PAIRS[name])
    )
    assert averaged.averages and not plain.averages
    params = [jnp.full(2, 4.0)] * 2
    states = [
        m.optimizer.init(p) for m, p in zip((averaged, plain), params, strict=True)
    ]
    updates = [jax.jit(m.optimizer.update) for m in (averaged, plain)]
    for _ in range(60):  # the loss |params|^2 / 2
        for i in (0, 1):
            moved, states[i] = updates[i](params[i], states[i], params[i])
            params[i] = optax.apply_updates(params[i], moved)
    np.testing.assert_allclose(params[0], params[1], rtol=1e-5)
    # It lags behind parameters that go down, by a tenth of the steps or so.
    found = averaged.eval_params(states[0], params[0])
    assert np.all(found > params[0]) and np.all(found < 4.0)


def test_prodigy_is_run_under_a_cosine_of_its_factor():
    options = {"steps": STEPS, "steps_per_epoch": 2}
    method = registry.build("prodigy_cosine", "adam", None, **options)
    plain = registry.build("prodigy", "adam", None, **options)
    params = jnp.full(2, 4.0)
    states = [m.optimizer.init(params) for m in (method, plain)]
    # The estimates are the same at first, so that the factor is what differs.
    read = [
        [float(m.learning_rate(s, i)) for i in (0, STEPS // 2, STEPS)]
        for m, s in zip((method, plain), states, strict=True)
    ]
    np.testing.assert_allclose(read[0], np.multiply(read[1], [1, 0.5, 1e-6]), rtol=1e-4)
    late = states[0]._replace(count=jnp.int32(STEPS // 2), estim_lr=jnp.float32(0.1))
    moved, _ = method.optimizer.update(params, late, params)
    other, _ = plain.optimizer.update(params, late, params)
    np.testing.assert_allclose(moved, 0.5 * other, rtol=1e-4)


def test_a_schedule_and_a_rule_multiply():
    method = registry.build("cosine+constant", "sgd", 0.1, STEPS, steps_per_epoch=10)
    alone = registry.build("cosine", "sgd", 0.1, STEPS, steps_per_epoch=10)
    states = [m.optimizer.init(jnp.ones(2)) for m in (method, alone)]
    for i in range(3):
        updates, states[0] = method.optimizer.update(
            jnp.ones(2), states[0], jnp.ones(2), value=1.0
        )
        expected, states[1] = alone.optimizer.update(jnp.ones(2), states[1])
        np.testing.assert_array_equal(updates, expected)
        assert method.learning_rate(states[0], i) == alone.learning_rate(None, i)


def moved_by(method, params, grads, steps=3):
    state, update = method.optimizer.init(params), jax.jit(method.optimizer.update)
    for _ in range(steps):
        updates, state = update(grads, state, params, value=jnp.sum(params**2))
        params = optax.apply_updates(params, updates)
    return params, state


@pytest.mark.parametrize("name", ["fixed", "trend", "prodigy", "mechanize"])
def test_gradients_are_clipped(name):
    build = partial(registry.build, name, "sgd", 0.1, STEPS, steps_per_epoch=10)
    params, direction = jnp.ones(2), jnp.array([0.6, 0.8])
    for size, kept in ((50.0, 1.0), (0.5, 0.5)):
        clipped, _ = moved_by(build(clip_norm=1.0), params, size * direction)
        expected, _ = moved_by(build(), params, kept * direction)
        np.testing.assert_allclose(clipped, expected, rtol=1e-5)


def test_autotune_goes_around_clipping():
    method = registry.build("autotune", "adam", 0.1, 300, 10, clip_norm=0.1)
    base = optax.chain(optax.clip_by_global_norm(0.1), optax.adam(0.1))
    around = optax_adaptive.autotune(base, total_steps=300)
    inside = optax_adaptive.autotune(optax.adam(0.1), total_steps=300)
    params, grads = jnp.ones(2), jnp.array([0.6, 0.8])

    def final(optimizer):
        state = moved_by(method._replace(optimizer=optimizer), params, grads, 60)[1]
        return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(state)])

    np.testing.assert_array_equal(final(method.optimizer), final(around))
    assert np.any(final(optimizers.clipped(inside, 0.1)) != final(around))


@pytest.mark.parametrize("start, grows", [(1e-4, True), (1.9, False)])
def test_hypergradient_follows_the_curvature(start, grows):
    # On x^2 / 2 by gradient descent, rates below 1 are too small and above, too large.
    tx = hypergradient(optax.sgd(start))
    update = jax.jit(partial(tx.update))
    params = jnp.ones(())
    state = tx.init(params)
    for _ in range(5):
        updates, state = update(params, state)
        params = optax.apply_updates(params, updates)
    # The first step has no last update to compare with.
    expected = 1.02**4 if grows else 0.98**4
    np.testing.assert_allclose(state.rate_factor, expected, rtol=1e-5)


@pytest.mark.parametrize("name", ["lerned", "cosine+lerned", "cosin+trend", "+", ""])
def test_an_unknown_method_is_an_error(name):
    with pytest.raises(ValueError, match="no method .*autotune.*cosine"):
        registry.build(name, "adam", 0.1, STEPS, steps_per_epoch=10)


def test_an_unknown_optimizer_is_an_error():
    with pytest.raises(ValueError, match="no optimizer 'adan', but adam"):
        registry.build("cosine", "adan", 0.1, STEPS, steps_per_epoch=10)
