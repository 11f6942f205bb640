"""The Python blocks of docs/devices.md run as they stand, and do what they say."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import NamedSharding, PartitionSpec

import optax_adaptive
from tests.helpers import code_blocks
from tests.helpers.regression import make_step, squared_error, student, teacher

PAGE = Path(__file__).parents[1] / "docs" / "devices.md"
P = PartitionSpec

pytestmark = pytest.mark.usefixtures("standard_promotion")


def given():
    batches = [teacher(jax.random.key(seed)) for seed in range(4)]
    return {
        "jax": jax,
        "np": np,
        "optax": optax,
        "optax_adaptive": optax_adaptive,
        "NamedSharding": NamedSharding,
        "PartitionSpec": PartitionSpec,
        "loss_fn": squared_error,
        "params": student(jax.random.key(0)),
        "batches": batches,
    }


def trained_alone():
    tx, params = optax_adaptive.autotune(optax.adam(1e-3)), student(jax.random.key(0))
    state, step = tx.init(params), jax.jit(make_step(tx))
    for batch in given()["batches"]:
        params, state = step(params, state, batch)
    return params, state


def assert_close(here, there):
    jax.tree.map(
        lambda one, two: np.testing.assert_allclose(one, two, 1e-4, 1e-6), here, there
    )


@pytest.mark.slow
def test_the_blocks_run_and_train_as_one_device_does(tmp_path):
    alone = trained_alone()
    assert len({block.section for block in code_blocks.blocks(PAGE)}) == 5

    names = given() | {"folder": tmp_path / "run"}
    code_blocks.run(PAGE, names, "jit")
    assert_close((names["params"], names["opt_state"]), alone)
    for title in ("Several processes", "Another number of devices", "Export"):
        code_blocks.run(PAGE, names, title)
    expected = squared_error(alone[0], names["batches"][0])
    np.testing.assert_allclose(names["loss"], expected, rtol=1e-4)
    assert_close((names["params"], names["opt_state"]), alone)
    assert len(names["params"]["out"].sharding.device_set) == 2
    assert names["exported"].platforms == ("cuda", "tpu")
    assert len(names["serialized"]) > 1000

    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    names = given() | {"mesh": mesh}
    code_blocks.run(PAGE, names, "shard_map and pmap")
    run = names["params"], names["tx"].init(names["params"])
    for batch in names["batches"]:
        run = names["step"](*run, batch)
    assert_close(run, alone)


def gradients(differentiate, check_vma):
    """Of the whole batch, over eight devices."""
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    mapped = jax.shard_map(
        differentiate,
        mesh=mesh,
        in_specs=(P(), P("data")),
        out_specs=P(),
        check_vma=check_vma,
    )
    return jax.jit(mapped)(student(jax.random.key(0)), teacher(jax.random.key(1)))


def of_varying(params, batch):
    own = jax.lax.pcast(params, "data", to="varying")
    return jax.lax.pmean(jax.grad(squared_error)(own, batch), "data")


def of_replicated(params, batch):
    return jax.lax.pmean(jax.grad(squared_error)(params, batch), "data")


def of_mean_loss(params, batch):
    def mean_loss(params):
        return jax.lax.pmean(squared_error(params, batch), "data")

    return jax.grad(mean_loss)(params)


@pytest.mark.parametrize(
    ("differentiate", "check_vma", "factor"),
    [
        (of_varying, True, 1.0),
        (of_varying, False, 1.0),
        (of_mean_loss, True, 1.0),
        (of_replicated, True, 8.0),  # what the page warns of
    ],
)
def test_gradients_are_those_of_the_whole_batch(differentiate, check_vma, factor):
    batch = teacher(jax.random.key(1))
    whole = jax.grad(squared_error)(student(jax.random.key(0)), batch)
    expected = jax.tree.map(lambda leaf: factor * leaf, whole)
    assert_close(gradients(differentiate, check_vma), expected)


def test_a_batch_of_a_device_has_other_gradients():
    """Or the test above would show nothing."""
    batch = teacher(jax.random.key(1))
    rows = jax.tree.map(lambda leaf: leaf[:4], batch)
    whole, part = (
        jax.grad(squared_error)(student(jax.random.key(0)), data)
        for data in (batch, rows)
    )
    assert jnp.abs(whole["out"] - part["out"]).max() > 0.1
