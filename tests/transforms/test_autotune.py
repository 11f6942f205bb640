"""autotune: finds the rate from anywhere, survives everything, resumes bitwise."""

import flax.serialization
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

import optax_adaptive
from optax_adaptive import controllers, scale_by_controller

STEPS = 400


@pytest.fixture(autouse=True)
def standard_promotion():
    """Adam mixes integers and floats; so does any real training."""
    with jax.numpy_dtype_promotion("standard"):
        yield


def teacher(key):
    """A regression batch of 32: inputs (32, 8), targets (32,)."""
    inputs = jax.random.normal(key, (32, 8))
    targets = jnp.tanh(inputs @ jnp.linspace(-1.0, 1.0, 8))
    return inputs, targets


def student(key):
    first, second = jax.random.split(key)
    return {
        "hidden": jax.random.normal(first, (8, 16)) / 8**0.5,
        "out": jax.random.normal(second, (16,)) / 4.0,
    }


def squared_error(params, batch):
    inputs, targets = batch
    outputs = jnp.tanh(inputs @ params["hidden"]) @ params["out"]
    return jnp.mean(jnp.square(outputs - targets))


def train(tx, loss_fn=squared_error, steps=STEPS, seed=0, dtype=jnp.float32):
    """Whole training as one scan; final loss at eval_params, losses, state, params."""
    key = jax.random.key(seed)
    params = jax.tree.map(lambda p: p.astype(dtype), student(key))

    def run(params):
        def step(carry, key):
            params, state = carry
            loss, grads = jax.value_and_grad(loss_fn)(params, teacher(key), key)
            updates, state = tx.update(grads, state, params, value=loss)
            return (optax.apply_updates(params, updates), state), loss

        keys = jax.random.split(jax.random.fold_in(key, 1), steps)
        return jax.lax.scan(step, (params, tx.init(params)), keys)

    (params, state), losses = jax.jit(run)(params)
    batch = teacher(jax.random.fold_in(key, 2))
    evaluated = optax_adaptive.eval_params(state, params)
    return loss_fn(evaluated, batch, key), losses, state, params


def plain(params, batch, key):
    del key
    return squared_error(params, batch)


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


@pytest.mark.parametrize(
    ("name", "total_steps", "interpolate"),
    [
        *((name, None, False) for name in list(OPTIMIZERS)[:-1]),
        ("adam", STEPS, False),
        ("adam without momentum", STEPS, True),
        ("sgd", None, True),
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
    assert (progress < 0.1).all()
    np.testing.assert_allclose(found, found[0], rtol=0.5)


def negative(params, batch, key):
    del key
    return squared_error(params, batch) - 5.0


def spiky(params, batch, key):
    is_spike = jax.random.bernoulli(key, 0.02)
    return squared_error(params, batch) * jnp.where(is_spike, 100.0, 1.0)


def noisy(params, batch, key):
    inputs, targets = jax.tree.map(lambda x: x[:8], batch)
    flips = jax.random.bernoulli(key, 0.2, targets.shape)
    return squared_error(params, (inputs, jnp.where(flips, -targets, targets)))


def flat(params, batch, key):
    """Starts where hardly anything can be learned: the output is a product of ~0."""
    del key
    return squared_error(jax.tree.map(lambda p: 0.1 * p, params), batch)


def sometimes_nan(params, batch, key):
    is_bad = jax.random.bernoulli(key, 0.05)
    return jnp.where(is_bad, jnp.nan, 1.0) * squared_error(params, batch)


@pytest.mark.parametrize(
    "tx",
    [
        optax_adaptive.autotune(optax.adam(1.0), total_steps=STEPS),
        optax_adaptive.autotune(optax.adam(1.0, b1=0.0), interpolate=True),
    ],
)
@pytest.mark.parametrize("loss_fn", [negative, spiky, noisy, flat, sometimes_nan])
def test_adverse_losses(loss_fn, tx):
    _, _, state, params = train(tx, loss_fn)
    evaluated = optax_adaptive.eval_params(state, params)
    if loss_fn is flat:
        evaluated = jax.tree.map(lambda p: 0.1 * p, evaluated)
    batch = teacher(jax.random.key(99))
    start = squared_error(student(jax.random.key(0)), batch)
    assert squared_error(evaluated, batch) < 0.5 * start


def test_a_blow_up_later_on_is_undone():
    """From step 250 on the gradient is far steeper: the rate must come down."""
    tx = optax_adaptive.autotune(optax.sgd(1.0))
    params = jnp.ones(4)

    def step(carry, index):
        params, state = carry
        curvature = jnp.where(index < 250, 1.0, 300.0)
        loss, grads = jax.value_and_grad(
            lambda p: 0.5 * curvature * jnp.sum(jnp.square(p)) + 1.0
        )(params)
        noise = 0.01 * jax.random.normal(jax.random.key(index), (4,))
        updates, state = tx.update(grads + noise, state, params, value=loss)
        return (optax.apply_updates(params, updates), state), loss

    (params, state), losses = jax.lax.scan(
        step, (params, tx.init(params)), jnp.arange(700)
    )
    assert int(optax_adaptive.summary(state)["rollbacks"]) >= 1
    assert float(losses[-1]) < 1.5


def test_an_adam_that_begins_anew_does_not_leave_the_copy_at_once():
    """With no second moment its first step is the whole rate, however small a loss."""
    tx = optax_adaptive.autotune(optax.adam(1.0))

    def step(carry, index):
        params, state = carry
        loss, grads = jax.value_and_grad(lambda p: jnp.sum(jnp.square(p)))(params)
        is_bad = (index == 600) | (index == 601)
        value = jnp.where(is_bad, jnp.inf, loss)
        updates, state = tx.update(grads, state, params, value=value)
        scale = optax_adaptive.lr_scale(state)
        return (optax.apply_updates(params, updates), state), (loss, scale)

    start = jnp.ones(50), tx.init(jnp.ones(50))
    (_, state), (losses, scales) = jax.lax.scan(step, start, jnp.arange(640))
    assert int(optax_adaptive.summary(state)["rollbacks"]) == 1
    # The return takes two updates.
    np.testing.assert_allclose(scales[603], 0.5 * scales[600], rtol=1e-5)
    whole_step = 50 * jnp.square(scales[603])  # loss that it would lead to
    assert float(losses[603:].max()) < 0.5 * float(whole_step)


@pytest.mark.parametrize("interpolate", [False, True])
def test_it_goes_back_to_the_average_and_to_a_first_inner_state(interpolate):
    tx = optax_adaptive.autotune(optax.sgd(1.0, 0.5), interpolate=interpolate)

    def step(carry, index):
        params, state = carry
        noise = 0.1 * jax.random.normal(jax.random.key(index), (4,))
        loss = 0.5 * jnp.sum(jnp.square(params)) + noise @ params
        loss = jnp.where(index >= 998, jnp.nan, loss)
        updates, state = tx.update(params + noise, state, params, value=loss)
        carry = optax.apply_updates(params, updates), state
        snapshot = state.inner_state.snapshot
        return carry, (params, state.averaging.averaged_params, snapshot)

    params = jnp.ones(4)
    (params, state), (seen, averages, snapshots) = jax.lax.scan(
        step, (params, tx.init(params)), jnp.arange(1000)
    )
    (first, *later) = np.flatnonzero(snapshots.is_taken)
    copies = snapshots.snapshot_params
    np.testing.assert_array_equal(copies[first], seen[first])  # the first parameters
    assert later
    for at in later:
        np.testing.assert_array_equal(copies[at], averages[at])
        assert not np.allclose(copies[at], seen[at], rtol=1e-3)
    assert snapshots.rollbacks[-1] == 1 and snapshots.is_restored[-1]
    np.testing.assert_allclose(params, copies[-1], rtol=1e-5)
    # The second update of the return, and then momentum is that of a first step.
    grads = jnp.full(4, 2.0)
    for value in (jnp.nan, 0.5):
        updates, state = tx.update(grads, state, params, value=value)
        params = optax.apply_updates(params, updates)
    np.testing.assert_allclose(optax.tree.get(state, "trace"), grads)


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


def wraps(rule, interpolate=False, optimizer=None):
    """What autotune is, around another rule."""
    optimizer = optax.sgd(1.0) if optimizer is None else optimizer
    scaling = scale_by_controller(rule, min_scale=1e-30, max_scale=1e30)
    tx = optax_adaptive.with_rollback(
        optax.chain(optimizer, scaling), backoff=1.0, restore_inner=False
    )
    return optax_adaptive.with_averaging(
        tx,
        fraction=0.2 if interpolate else 0.1,
        interpolation=0.7 if interpolate else 0.0,
    )


@pytest.mark.parametrize("interpolate", [False, True])
def test_it_is_a_composition_of_public_parts(interpolate):
    tx = optax_adaptive.autotune(
        optax.sgd(1.0), total_steps=STEPS, interpolate=interpolate
    )
    same = wraps(controllers.tuned(STEPS, interpolate), interpolate)
    *_, state, params = train(tx, noisy)
    *_, expected, expected_params = train(same, noisy)
    jax.tree.map(np.testing.assert_array_equal, params, expected_params)
    jax.tree.map(np.testing.assert_array_equal, state, expected)


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


def test_the_slope_is_that_on_the_way_to_the_first_parameters():
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
    early = [(at, seen) for at, seen in judged if seen.return_slope]
    assert len(early) >= 2
    first = jax.tree.map(lambda leaf: leaf[0], points)
    for at, _ in early:
        jax.tree.map(
            lambda copy, param, at=at: np.testing.assert_array_equal(copy[at], param),
            *(kept, first),
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
    np.testing.assert_allclose(seen.return_slope, slope, rtol=0.25)
    np.testing.assert_allclose(seen.averaging_gap, gap, rtol=0.5)


def make_step(tx, loss_fn=squared_error):
    def step(params, state, batch):
        loss, grads = jax.value_and_grad(loss_fn)(params, batch)
        updates, state = tx.update(grads, state, params, value=loss)
        return optax.apply_updates(params, updates), state

    return step


def test_resumes_bitwise_in_every_phase():
    tx = optax_adaptive.autotune(optax.adam(0.1), total_steps=STEPS)
    step = jax.jit(make_step(tx))
    params = student(jax.random.key(0))
    state = tx.init(params)
    other, other_state = params, state
    phases = set()
    for i in range(200):
        batch = teacher(jax.random.key(i))
        params, state = step(params, state, batch)
        if i % 10 == 0:
            phases.add(int(optax_adaptive.summary(other_state)["phase"]))
            blob = flax.serialization.to_bytes((other, other_state))
            like = jax.tree.map(jnp.zeros_like, (other, other_state))
            other, other_state = flax.serialization.from_bytes(like, blob)
            other, other_state = jax.tree.map(jnp.asarray, (other, other_state))
        other, other_state = step(other, other_state, batch)
    assert phases == {0, 1, 2, 3}
    pairs = zip(
        jax.tree.leaves((params, state)),
        jax.tree.leaves((other, other_state)),
        strict=True,
    )
    for one, two in pairs:
        np.testing.assert_array_equal(one, two)
    assert step._cache_size() == 1


def test_donation():
    tx = optax_adaptive.autotune(optax.adam(0.1), total_steps=STEPS)
    step = jax.jit(make_step(tx), donate_argnums=(0, 1))
    params = student(jax.random.key(0))
    state = tx.init(params)
    for i in range(100):
        params, state = step(params, state, teacher(jax.random.key(i)))
    assert int(optax_adaptive.summary(state)["phase"]) >= 2


def test_sharded_data_keep_the_state_equal():
    tx = optax_adaptive.autotune(optax.adam(0.1), total_steps=STEPS)
    mesh = Mesh(np.array(jax.devices()[:8]), ("data",))
    split = NamedSharding(mesh, PartitionSpec("data"))
    whole = NamedSharding(mesh, PartitionSpec())
    step = jax.jit(make_step(tx), out_shardings=whole)
    params = jax.device_put(student(jax.random.key(0)), whole)
    state = jax.device_put(tx.init(params), whole)
    for i in range(120):
        batch = jax.device_put(teacher(jax.random.key(i)), split)
        # One step at a time: many in flight may starve the all-reduce.
        params, state = jax.block_until_ready(step(params, state, batch))
    for leaf in jax.tree.leaves(state):
        shards = [np.asarray(shard.data) for shard in leaf.addressable_shards]
        assert all((shard == shards[0]).all() for shard in shards)
    assert step._cache_size() <= 2


@pytest.mark.parametrize("interpolate", [False, True])
def test_sharded_params_compile_once(interpolate):
    mesh = Mesh(np.array(jax.devices()[:8]), ("model",))
    split = NamedSharding(mesh, PartitionSpec("model"))
    params = jax.device_put({"w": jnp.ones((16, 8)), "b": jnp.ones(16)}, split)
    tx = optax_adaptive.autotune(optax.adam(0.1), interpolate=interpolate)
    state = tx.init(params)

    @jax.jit
    def step(params, state):
        loss, grads = jax.value_and_grad(
            lambda p: jnp.mean(jnp.square(p["w"] - p["b"][:, None] - 1.0))
        )(params)
        updates, state = tx.update(grads, state, params, value=loss)
        return optax.apply_updates(params, updates), state

    for _ in range(4):
        params, state = jax.block_until_ready(step(params, state))
    assert step._cache_size() == 1
    for copy in (state.averaging, state.inner_state.snapshot):
        assert copy[0]["w"].sharding.is_equivalent_to(split, 2)


def test_copies_are_sharded_as_the_params_are():
    mesh = jax.make_mesh((8,), ("x",), axis_types=(AxisType.Explicit,))
    with jax.set_mesh(mesh):
        split = NamedSharding(mesh, PartitionSpec("x"))
        params = jax.device_put(jnp.ones((8, 4)), split)
        tx = optax_adaptive.autotune(optax.adam(0.1))
        state = tx.init(params)
        snapshot = state.inner_state.snapshot
        copies = (snapshot.snapshot_params, state.averaging.averaged_params)
        assert all(copy.sharding == split for copy in copies)
        for _ in range(2):
            updates, state = jax.jit(tx.update)(params, state, params, value=1.0)
        assert updates.sharding.is_equivalent_to(split, updates.ndim)


def test_eager_updates_trace_their_rule_once():
    rule, traced = controllers.tuned(), []

    def update_fn(observation, state):
        traced.append(None)
        return rule.update(observation, state)

    tx = wraps(rule._replace(update=update_fn))
    params = jnp.ones(2)
    state = tx.init(params)
    for _ in range(3):
        _, state = tx.update(params, state, params, value=1.0)
    assert len(traced) == 1


def test_inside_multi_steps():
    tx = optax.MultiSteps(
        optax_adaptive.autotune(optax.adam(0.1), total_steps=200), every_k_schedule=2
    )
    params = student(jax.random.key(0))

    def step(carry, key):
        params, state = carry
        loss, grads = jax.value_and_grad(squared_error)(params, teacher(key))
        updates, state = tx.update(grads, state, params, value=loss)
        return (optax.apply_updates(params, updates), state), loss

    (params, state), losses = jax.lax.scan(
        step, (params, tx.init(params)), jax.random.split(jax.random.key(1), 400)
    )
    assert float(losses[-1]) < 0.2 * float(losses[0])
    assert optax_adaptive.summary(state)["phase"] == 3


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
    # Every value of the search is a window of its own, and then blocks are.
    assert 70 < int(numbers["windows"]) < 100


def test_memory_is_what_the_docstring_says():
    params = {"w": jnp.zeros((100, 100)), "b": jnp.zeros(100, jnp.bfloat16)}

    def size(tree):
        return sum(leaf.nbytes for leaf in jax.tree.leaves(tree))

    inner = size(optax.adam(0.1).init(params))
    average = size(jax.tree.map(lambda p: p.astype(jnp.float32), params))
    tx = optax_adaptive.autotune(optax.adam(0.1))
    copies = inner + size(params) + average
    assert copies <= size(tx.init(params)) <= copies + 1000


def test_init_reads_no_contents():
    tx = optax_adaptive.autotune(optax.adam(0.1))
    shapes = jax.eval_shape(lambda: student(jax.random.key(0)))
    assert jax.tree.structure(tx.init(shapes)) == jax.tree.structure(
        jax.eval_shape(tx.init, shapes)
    )
    leaves = jax.tree.leaves(tx.init(student(jax.random.key(0))))
    pointers = [leaf.unsafe_buffer_pointer() for leaf in leaves]
    assert len(set(pointers)) == len(pointers)
    optax.tree.map_params(tx, lambda leaf: leaf, tx.init(shapes))


@pytest.mark.parametrize("value", [1, 1.0, np.float64(1.0), jnp.bfloat16(1.0)])
def test_any_scalar_is_a_value(value):
    tx = optax_adaptive.autotune(optax.sgd(0.1))
    params = jnp.ones(2)
    _, state = tx.update(params, tx.init(params), params, value=value)
    assert float(optax_adaptive.summary(state)["last_value"]) == 1.0


def test_bad_input():
    with pytest.raises(ValueError, match=r"total_steps must be in \[200, inf\)"):
        optax_adaptive.autotune(optax.sgd(0.1), total_steps=100)
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


@pytest.mark.parametrize("what", ["value", "gradient", "zeros"])
@pytest.mark.parametrize("steps", [6, 12, 30])
def test_calibration_outlasts_steps_that_tell_nothing(what, steps):
    tx = optax_adaptive.autotune(optax.sgd(1e-3), total_steps=400)

    def step(carry, index):
        params, state = carry
        loss, grad = jax.value_and_grad(lambda p: jnp.sum(jnp.square(p - 1.0)))(params)
        is_early = index < steps
        if what == "value":
            loss = jnp.where(is_early, jnp.nan, loss)
        else:
            grad = jnp.where(is_early, jnp.inf if what == "gradient" else 0.0, grad)
        updates, state = tx.update(grad, state, params, value=loss)
        return (optax.apply_updates(params, updates), state), params

    params = jnp.zeros(3)
    (params, state), seen = jax.lax.scan(
        step, (params, tx.init(params)), jnp.arange(400)
    )
    assert jnp.abs(seen[:steps]).max() < 1e-4
    numbers = optax_adaptive.summary(state)
    assert numbers["phase"] == 3 and 1.0 < numbers["found_scale"] < 1e4
    assert float(jnp.abs(optax_adaptive.eval_params(state, params) - 1.0).max()) < 0.05


@pytest.mark.parametrize("every", [2, 3])
def test_losses_of_inf_among_others_lose_no_candidate(every):
    tx = optax_adaptive.autotune(optax.sgd(1e-3), total_steps=400)

    def step(carry, index):
        params, state = carry
        loss, grad = jax.value_and_grad(lambda p: jnp.sum(jnp.square(p - 1.0)))(params)
        loss = jnp.where(index % every == 0, jnp.inf, loss)
        updates, state = tx.update(grad, state, params, value=loss)
        return (optax.apply_updates(params, updates), state), None

    params = jnp.zeros(3)
    (params, state), _ = jax.lax.scan(step, (params, tx.init(params)), jnp.arange(400))
    assert float(jnp.abs(optax_adaptive.eval_params(state, params) - 1.0).max()) < 0.1


@pytest.mark.parametrize("others", [None, 200, 10_000])
def test_a_run_may_be_resumed_with_another_total_steps(others):
    params = jnp.zeros(3)
    tx = optax_adaptive.autotune(optax.sgd(0.1), total_steps=2_000)
    _, state = tx.update(params, tx.init(params), params, value=1.0)
    other = optax_adaptive.autotune(optax.sgd(0.1), total_steps=others)
    _, resumed = other.update(params, state, params, value=1.0)
    assert jax.tree.structure(resumed) == jax.tree.structure(state)


@pytest.mark.parametrize("interpolate", [False, True])
def test_a_run_may_not_be_resumed_with_another_interpolate(interpolate):
    params = jnp.zeros(3)
    state = optax_adaptive.autotune(optax.sgd(0.1), interpolate=interpolate).init(
        params
    )
    other = optax_adaptive.autotune(optax.sgd(0.1), interpolate=not interpolate)
    names = ("plain", "interpolated")
    wanted, found = (names[not interpolate], names[interpolate])
    with pytest.raises(ValueError, match=f"be '{wanted}-v.*it is '{found}-v"):
        other.update(params, state, params, value=1.0)


@pytest.mark.parametrize(
    "make",
    [
        lambda: optax_adaptive.autotune(optax.adam(0.1)),
        lambda: optax_adaptive.with_rollback(optax.adam(0.1)),
        lambda: optax_adaptive.with_averaging(optax.adam(0.1)),
    ],
)
def test_eager_updates_compile_nothing_anew(make):
    tx, params = make(), jnp.ones(2)
    state, compiled = tx.init(params), []

    def listen(event, seconds, **details):
        del seconds, details
        if event.endswith("backend_compile_duration"):
            compiled.append(event)

    with jax.numpy_dtype_promotion("standard"):  # Adam mixes dtypes
        for index in range(8):
            if index == 4:
                jax.monitoring.register_event_duration_secs_listener(listen)
            _, state = tx.update(params, state, params, value=jnp.float32(1.0))
    jax.monitoring.unregister_event_duration_listener(listen)
    assert not compiled


def full_batch(params, batch, key):
    del batch, key
    return squared_error(params, teacher(jax.random.key(9)))


def same_at_first(params, batch, key):
    """Of outputs that begin at 0 each batch has a loss of 1, and its own later."""
    del key
    inputs, targets = batch
    params = params | {"out": params["out"] - student(jax.random.key(0))["out"]}
    return squared_error(params, (inputs, jnp.sign(targets)))


@pytest.mark.parametrize(("loss_fn", "rises"), [(full_batch, 1), (same_at_first, 0)])
def test_a_rate_rises_early_where_batches_do_not_differ(loss_fn, rises):
    tx = optax_adaptive.autotune(optax.sgd(1.0))
    _, _, state, _ = train(tx, loss_fn, steps=380)
    numbers = optax_adaptive.summary(state)
    assert int(numbers["phase"]) == 3
    assert bool(numbers["lr_scale"] > 1.5 * numbers["found_scale"]) == rises


def test_what_is_solved_is_not_undone_by_a_rate_that_goes_on_rising():
    """Inputs of many sizes, targets without noise: Adam's loss falls without end."""
    sizes = jnp.logspace(0.0, -1.3, 20)[None, :]

    def batch_of(key):
        inputs = sizes * jax.random.normal(key, (16, 20))
        return inputs, inputs.sum(1)

    def loss_fn(params, batch):
        inputs, targets = batch
        return jnp.mean(jnp.square(inputs @ params - targets))

    tx = optax_adaptive.autotune(optax.adam(1e-3))
    step = make_step(tx, loss_fn)
    params = jnp.zeros(20)
    (params, state), _ = jax.lax.scan(
        lambda carry, key: (step(*carry, batch_of(key)), None),
        (params, tx.init(params)),
        jax.random.split(jax.random.key(0), 1500),
    )
    evaluated = optax_adaptive.eval_params(state, params)
    assert loss_fn(evaluated, batch_of(jax.random.key(1))) < 1e-9


@jax.numpy_dtype_promotion("standard")  # Adam mixes dtypes
def test_an_average_that_lags_is_not_evaluated():
    """Where the loss falls by ten decades, what was averaged early is far off."""
    weights = jax.random.normal(jax.random.key(0), (256, 8))
    tx = optax_adaptive.autotune(optax.adam(1e-3), total_steps=2000)

    def loss_fn(params):
        return jnp.mean(jnp.square(weights @ (params - 1e3)))

    def step(carry, _):
        params, state = carry
        loss, grads = jax.value_and_grad(loss_fn)(params)
        updates, state = tx.update(grads, state, params, value=loss)
        return (optax.apply_updates(params, updates), state), None

    params = jnp.zeros(8)
    (params, state), _ = jax.lax.scan(step, (params, tx.init(params)), length=900)
    evaluated = optax_adaptive.eval_params(state, params)
    assert loss_fn(evaluated) < 1e-3 < loss_fn(state.averaging.averaged_params)
