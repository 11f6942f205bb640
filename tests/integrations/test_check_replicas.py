"""check_replicas finds out what differs between devices, or between processes."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import optax_adaptive
from optax_adaptive import controllers, scale_by_controller
from optax_adaptive.integrations import check_replicas
from tests.helpers.whole_run import unsharded

P = PartitionSpec
ROOT = Path(__file__).parents[2]


def mesh_of():
    return jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))


def scaled():
    rule = controllers.trend()
    return optax.chain(optax.sgd(0.1), scale_by_controller(rule))


TRANSFORMATIONS = {
    "scale_by_controller": scaled,
    "with_rollback": lambda: optax_adaptive.with_rollback(optax.sgd(0.1)),
    "both": lambda: optax_adaptive.with_rollback(scaled()),
}


@pytest.mark.parametrize("make", TRANSFORMATIONS.values(), ids=TRANSFORMATIONS)
def test_a_value_of_each_device_is_found_out(make):
    tx, params = make(), jnp.ones(8)
    state = tx.init(params)

    def step(state, losses, is_averaged):
        loss = losses[0]
        loss = jnp.where(is_averaged, jax.lax.pmean(loss, "data"), loss)
        return tx.update(params, state, params, value=loss)[1]

    # That it is replicated, JAX takes on trust.
    step = jax.jit(
        jax.shard_map(
            step,
            mesh=mesh_of(),
            in_specs=(P(), P("data"), P()),
            out_specs=P(),
            check_vma=False,
        )
    )
    losses = jnp.arange(8.0)
    check_replicas(step(state, losses, True))
    with pytest.raises(ValueError, match="devices of process 0 differ.* `value`"):
        check_replicas(step(state, losses, False))


@pytest.mark.parametrize("place", [jnp.asarray, np.asarray], ids=["jax", "numpy"])
def test_what_is_alike_passes(place):
    state = jax.tree.map(place, scaled().init(jnp.ones(2)))
    assert check_replicas(state) is None
    spoilt = optax.tree.set(state, lr_scale=place(np.float32(np.nan)))
    check_replicas(jax.device_put(spoilt, NamedSharding(mesh_of(), P())))


def test_a_state_that_is_split_all_over_is_not_passed_over():
    state = jax.tree.map(lambda leaf: jnp.stack([leaf] * 8), scaled().init(None))
    state = jax.device_put(state, NamedSharding(mesh_of(), P(*mesh_of().axis_names)))
    with pytest.raises(ValueError, match="nothing to compare"):
        check_replicas(state)


def test_it_needs_a_state_of_this_library_outside_of_jit():
    with pytest.raises(ValueError, match="no controller and no with_rollback"):
        check_replicas(optax.adam(0.1).init(jnp.ones(2)))
    with pytest.raises(ValueError, match=r"outside jax\.jit"):
        jax.jit(check_replicas)(scaled().init(jnp.ones(2)))


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def two_processes(devices):
    """What each of two came to, with so many devices each."""
    env = os.environ | {
        "JAX_NUM_CPU_DEVICES": str(devices),
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": str(ROOT),
    }
    address = f"127.0.0.1:{free_port()}"
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.integrations.process", address, str(index)],
            env=env,
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for index in range(2)
    ]
    results = []
    for process in processes:
        output, errors = process.communicate()
        assert process.returncode == 0, errors
        results.append(json.loads(output.splitlines()[-1]))
    return results


@pytest.mark.slow
@pytest.mark.usefixtures("standard_promotion")
def test_two_processes_train_as_one_and_a_loss_of_each_is_found_out():
    one, two = two_processes(devices=1)
    assert one == two  # to the last bit
    assert one["devices"] == 2
    params, state, (losses, rates) = unsharded()
    found = optax_adaptive.summary(state)["found_scale"]
    # As in tests/helpers/whole_run.py: sums over devices round otherwise.
    np.testing.assert_allclose(one["found"], found, rtol=1e-4)
    np.testing.assert_allclose(one["losses"], losses, rtol=1e-4)
    np.testing.assert_allclose(one["rates"], rates, rtol=1e-4)
    jax.tree.map(
        lambda here, there: np.testing.assert_allclose(here, there, 1e-4, 1e-5),
        *({name: np.float32(leaf) for name, leaf in one["params"].items()}, params),
    )
    assert one["alike"] is None
    assert "process 1 is not that of process 0" in one["other"]
