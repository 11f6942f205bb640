"""autotune on eight devices: through its search and after as on one."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import optax_adaptive
from optax_adaptive import controllers
from tests.helpers.regression import squared_error, teacher
from tests.helpers.whole_run import (
    STEPS,
    assert_same_run,
    batches,
    first_params,
    scanned,
    tuning,
    whole_step,
)

pytestmark = pytest.mark.usefixtures("standard_promotion")

P = PartitionSpec
ADAM = optax.adam(0.1)
SAVED = 40  # steps before a checkpoint, which is within the search


def mesh_of(devices=8):
    return jax.make_mesh((devices,), ("data",), axis_types=(AxisType.Auto,))


@pytest.mark.parametrize(
    ("spec", "interpolate"), [(P(), False), (P("data"), False), (P("data"), True)]
)
def test_a_whole_run_under_jit_is_that_of_one_device(spec, interpolate):
    mesh, tx = mesh_of(), tuning(interpolate)
    placement = NamedSharding(mesh, spec)
    params = jax.device_put(first_params(), placement)
    data = jax.device_put(batches(), NamedSharding(mesh, P(None, "data")))
    state, run = tx.init(params), jax.jit(scanned(whole_step(tx)))

    def assert_placed(state):
        for leaf in jax.tree.leaves(state):  # params have 128 and 16 entries
            is_large = leaf.shape in ((8, 16), (16,))
            wanted = placement if is_large else NamedSharding(mesh, P())
            assert leaf.sharding.is_equivalent_to(wanted, leaf.ndim)

    assert_placed(state)
    seen = []
    for half in (slice(0, STEPS // 2), slice(STEPS // 2, STEPS)):
        part = jax.tree.map(lambda leaf, half=half: leaf[half], data)
        params, state, part_seen = jax.block_until_ready(run(params, state, part))
        seen.append(part_seen)
    assert run._cache_size() == 1
    assert_placed(state)
    losses_and_rates = jax.tree.map(lambda *parts: np.concatenate(parts), *seen)
    assert_same_run((params, state, losses_and_rates), interpolate)


@functools.cache
def saved(folder):
    """A checkpoint of eight devices in the middle of the search, and what was seen."""
    params = jax.device_put(first_params(), NamedSharding(mesh_of(), P("data")))
    tx = tuning()
    data = jax.tree.map(lambda leaf: leaf[:SAVED], batches())
    run = jax.jit(scanned(whole_step(tx)))
    params, state, seen = run(params, tx.init(params), data)
    assert optax_adaptive.summary(state)["phase"] == 1
    with orbax.checkpoint.StandardCheckpointer() as checkpointer:
        checkpointer.save(folder / "run", (params, state))
    return seen


@pytest.mark.parametrize("devices", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_run_goes_on_on_another_number_of_devices(devices, tmp_path_factory):
    folder = tmp_path_factory.getbasetemp()
    before = saved(folder)
    placement = NamedSharding(mesh_of(devices), P("data"))
    params, tx = jax.device_put(first_params(), placement), tuning()
    # As docs/devices.md has it: a state of the new machine says where all belongs.
    with orbax.checkpoint.StandardCheckpointer() as checkpointer:
        params, state = checkpointer.restore(folder / "run", (params, tx.init(params)))
    assert len(state.averaging.averaged_params["out"].sharding.device_set) == devices
    data = jax.tree.map(lambda leaf: leaf[SAVED:], batches())
    params, state, after = jax.jit(scanned(whole_step(tx)))(params, state, data)
    seen = jax.tree.map(lambda *parts: np.concatenate(parts), before, after)
    assert_same_run((params, state, seen))


def device_step(tx):
    """One of a device's own part of a batch."""

    def step(params, state, batch):
        varying = jax.lax.pcast(params, "data", to="varying")
        loss, grads = jax.value_and_grad(squared_error)(varying, batch)
        grads = jax.lax.pmean(grads, "data")
        updates, state = tx.update(grads, state, params, value=loss)
        params = optax.apply_updates(params, updates)
        return params, state, jax.lax.pmean(loss, "data")

    return step


@pytest.mark.parametrize(
    "check_vma", [True, pytest.param(False, marks=pytest.mark.slow)]
)
def test_axis_name_under_shard_map(check_vma):
    tx, params = tuning(axis_name="data"), first_params()
    run = jax.shard_map(
        scanned(device_step(tx)),
        mesh=mesh_of(),
        in_specs=(P(), P(), P(None, "data")),
        out_specs=P(),
        check_vma=check_vma,
    )
    assert_same_run(jax.jit(run)(params, tx.init(params), batches()))


def test_axis_name_under_pmap():
    tx, params = tuning(axis_name="data"), first_params()
    run = jax.pmap(scanned(device_step(tx)), axis_name="data", in_axes=(None, None, 1))
    parts = jax.tree.map(
        lambda leaf: leaf.reshape(STEPS, 8, 4, *leaf.shape[2:]), batches()
    )
    every = jax.device_get(run(params, tx.init(params), parts))
    first = jax.tree.map(lambda leaf: leaf[0], every)
    jax.tree.map(
        lambda leaf, one: np.testing.assert_array_equal(leaf, np.stack([one] * 8)),
        *(every, first),
    )
    assert_same_run(first)


def lowered(tx, averages_value=False, averages_grads=False):
    """A step in ``shard_map``, traced, of what is averaged over devices or not."""

    def step(params, state, batch):
        varying = jax.lax.pcast(params, "data", to="varying")
        loss, grads = jax.value_and_grad(squared_error)(varying, batch)
        grads = jax.lax.pmean(grads, "data") if averages_grads else grads
        loss = jax.lax.pmean(loss, "data") if averages_value else loss
        updates, state = tx.update(grads, state, params, value=loss)
        return state, updates if averages_grads else ()

    params = first_params()
    specs = (P(), P(), P("data"))
    mapped = jax.shard_map(step, mesh=mesh_of(), in_specs=specs, out_specs=P())
    return jax.eval_shape(mapped, params, tx.init(params), teacher(jax.random.key(1)))


def size_reader():
    return optax_adaptive.Controller(
        init=lambda: jnp.zeros(()),
        update=lambda observation, state: (jnp.log(observation.update_size), state),
        name="reader",
    )


SCALINGS = {
    "autotune": lambda **axis: optax_adaptive.autotune(optax.adam(0.1), **axis),
    "with_rollback": lambda **axis: optax_adaptive.with_rollback(
        optax.adam(0.1), **axis
    ),
    "trend": lambda **axis: optax_adaptive.scale_by_controller(
        controllers.trend(), **axis
    ),
    "size_reader": lambda **axis: optax_adaptive.scale_by_controller(
        size_reader(), **axis
    ),
}
every_scaling = pytest.mark.parametrize("make", SCALINGS.values(), ids=SCALINGS)


@every_scaling
def test_a_value_of_each_device_is_refused_without_an_axis_name(make):
    with pytest.raises(ValueError, match="`value` must be the same .* axis 'data': .*"):
        lowered(make(), averages_grads=True)
    lowered(make(), averages_grads=True, averages_value=True)
    lowered(make(axis_name="data"), averages_grads=True)


@pytest.mark.parametrize("name", ["autotune", "with_rollback"])
@pytest.mark.parametrize("axis", [{}, {"axis_name": "data"}], ids=str)
def test_gradients_of_each_device_are_refused(name, axis):
    with pytest.raises(ValueError, match="gradients must be the same .* axis 'data'"):
        lowered(SCALINGS[name](**axis), averages_value=True)


def test_gradients_of_each_device_are_refused_by_an_average():
    tx = optax_adaptive.with_averaging(optax.adam(0.1))
    with pytest.raises(ValueError, match="gradients must be the same .* axis 'data'"):
        lowered(tx)
    lowered(tx, averages_grads=True)


def test_updates_of_each_device_are_refused_where_a_rule_reads_their_size():
    make = SCALINGS["size_reader"]
    with pytest.raises(ValueError, match="size of updates, which the rule 'reader'"):
        lowered(make(), averages_value=True)
    lowered(make(axis_name="data"))
    lowered(SCALINGS["trend"](), averages_value=True)  # that does not


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


@pytest.mark.parametrize("wrap", [tuning, lambda: optax_adaptive.with_rollback(ADAM)])
def test_the_axes_of_a_mesh_may_be_explicit(wrap):
    # As jax.make_mesh makes them; of a large leaf one row is looked at.
    mesh, tx = jax.make_mesh((8,), ("data",)), wrap()

    @jax.jit
    def step(params, state, x):
        def loss_fn(params):
            return jnp.mean(jnp.square(x @ params["w"] + params["b"][None]))

        loss, grads = jax.value_and_grad(loss_fn)(params)
        updates, state = tx.update(grads, state, params, value=loss)
        return optax.apply_updates(params, updates), state

    split, whole = NamedSharding(mesh, P("data")), NamedSharding(mesh, P())
    params = {
        "w": jax.device_put(jnp.ones((128, 64)), split),
        "b": jax.device_put(jnp.ones(64), whole),
    }
    x = jax.device_put(jnp.ones((8, 128)), split)
    state = tx.init(params)
    for _ in range(3):
        params, state = step(params, state, x)
    assert params["w"].sharding.is_equivalent_to(split, 2)
    assert np.isfinite(params["w"]).all()
