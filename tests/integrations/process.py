"""One of two processes that train as one: started by ``test_check_replicas.py``.

Prints what it came to as the last line, in JSON.
"""

import json
import sys

import jax
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import optax_adaptive
from optax_adaptive.integrations import check_replicas
from tests.helpers.whole_run import batches, first_params, scanned, tuning, whole_step


def own_rows(leaf):
    """Of (STEPS, 32, ...) those that this process loads."""
    rows = leaf.shape[1] // jax.process_count()
    first = jax.process_index() * rows
    return np.asarray(leaf[:, first : first + rows])


def train(mesh):
    """The whole run, of batches that lie in both; params, state, losses and rates."""
    split = NamedSharding(mesh, PartitionSpec(None, "data"))
    data = jax.tree.map(
        lambda leaf: jax.make_array_from_process_local_data(split, own_rows(leaf)),
        batches(),
    )
    params = jax.device_put(first_params(), NamedSharding(mesh, PartitionSpec()))
    tx = tuning()
    return jax.jit(scanned(whole_step(tx)))(params, tx.init(params), data)


def refusal(state):
    """What the check says; None if nothing."""
    try:
        check_replicas(state)
    except ValueError as error:
        return str(error)
    return None


def main(address, index):
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(address, 2, int(index))
    mesh = jax.make_mesh((jax.device_count(),), ("data",), axis_types=(AxisType.Auto,))
    params, state, (losses, rates) = jax.block_until_ready(train(mesh))
    alike = refusal(state)
    own_loss = float(jax.process_index())  # of its own rows, say
    _, other = jax.jit(tuning().update)(params, state, params, value=own_loss)
    result = {
        "devices": jax.device_count(),
        "found": float(optax_adaptive.summary(state)["found_scale"]),
        "params": jax.tree.map(lambda leaf: np.asarray(leaf).tolist(), params),
        "losses": np.asarray(losses).tolist(),
        "rates": np.asarray(rates).tolist(),
        "alike": alike,
        "other": refusal(other),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main(*sys.argv[1:])
