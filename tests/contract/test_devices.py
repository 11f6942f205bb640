"""On eight CPU devices: sharded batches, pmap and shard_map."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from optax_adaptive import Controller, lr_scale, observe, scale_by_controller
from tests.contract.rules import followed, scaling, stream

P = PartitionSpec
DEVICES = 8


def batches():
    """Losses a device, whose mean over devices is a stream."""
    noise = np.random.default_rng(0).normal(0, 0.1, (len(stream()), DEVICES))
    return np.float32(stream()[:, None] + noise)


def single_device_scales(rule):
    return np.asarray(followed(rule)(batches().mean(1))[0])


@pytest.fixture
def mesh():
    return jax.make_mesh(
        (DEVICES,), ("data",), axis_types=(jax.sharding.AxisType.Auto,)
    )


# What is sharded is the loss alone. These are a rule of plain numbers, one with a key,
# one with a network, and one that is handed what the wrappers measure.
@pytest.mark.parametrize("rule", ["trend", "bandit", "actor_critic", "tuned"])
def test_a_sharded_batch_needs_nothing(rule, mesh):
    tx = optax.chain(optax.sgd(0.1), scaling(rule))
    replicated = NamedSharding(mesh, P())
    sharded = NamedSharding(mesh, P("data"))
    params = jax.device_put(jnp.ones(2), replicated)
    state = jax.device_put(tx.init(params), replicated)

    @jax.jit
    def step(state, losses):
        _, state = tx.update(params, state, params, value=jnp.mean(losses))
        return state

    scales = []
    for losses in batches()[:24]:
        state = step(state, jax.device_put(losses, sharded))
        # One step at a time: more in flight than cores would starve the all-reduce.
        scales.append(float(lr_scale(state)))
    assert step._cache_size() == 1
    assert all(leaf.sharding.is_fully_replicated for leaf in jax.tree.leaves(state))
    expected = single_device_scales(rule)[:24]
    np.testing.assert_allclose(scales, expected, rtol=1e-5)


@pytest.mark.parametrize("check_vma", [True, False])
@pytest.mark.parametrize("rule", ["plateau", "trend"])
def test_axis_name_under_shard_map(rule, check_vma, mesh):
    tx = scaling(rule, axis_name="data")

    def run(losses):  # shape=(steps, 1): the losses of one device
        def step(state, loss):
            _, state = tx.update(jnp.ones(()), state, value=loss[0])
            return state, state.lr_scale

        scales = jax.lax.scan(step, tx.init(None), losses)[1]
        return scales if check_vma else scales[:, None]

    # With the check, only a replicated result may leave by P(); without it, what each
    # device has is looked at.
    out_specs = P() if check_vma else P(None, "data")
    scales = jax.jit(
        jax.shard_map(
            run,
            mesh=mesh,
            in_specs=P(None, "data"),
            out_specs=out_specs,
            check_vma=check_vma,
        )
    )(batches())
    expected = single_device_scales(rule)
    for device_scales in np.atleast_2d(scales.T):
        np.testing.assert_allclose(device_scales, expected, rtol=1e-5)


@pytest.mark.filterwarnings("ignore:autotune and most rules")
def test_axis_name_under_pmap():
    tx = scaling("trend", axis_name="data")
    start = tx.init(None)

    def run(losses):  # shape=(steps,): the losses of one device
        def step(state, loss):
            return tx.update(jnp.ones(()), state, value=loss)[1], None

        return jax.lax.scan(step, start, losses)[0]

    states = jax.pmap(run, axis_name="data")(batches().T)
    expected = single_device_scales("trend")[-1]
    np.testing.assert_allclose(states.lr_scale, np.full(DEVICES, expected), rtol=1e-5)
    observed = observe(states, np.arange(DEVICES, dtype=np.float32))
    assert jax.tree.map(jnp.shape, observed) == jax.tree.map(jnp.shape, states)


def test_the_size_of_updates_is_averaged_over_devices_too():
    rule = Controller(
        init=lambda: jnp.zeros(()),
        update=lambda observation, state: (jnp.log(observation.update_size), state),
    )
    tx = scale_by_controller(rule, accumulation_size=1, axis_name="data")
    start = tx.init(None)

    def run(update):  # shape=(): that of one device
        return tx.update(update, start, value=jnp.ones(()))[1].lr_scale

    sizes = jnp.arange(DEVICES, dtype=jnp.float32)
    scales = jax.pmap(run, axis_name="data")(sizes)
    np.testing.assert_allclose(scales, np.full(DEVICES, sizes.mean()), rtol=1e-5)
