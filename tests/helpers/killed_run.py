"""A training that kills itself, as a script: ``killed_run.py METHOD FOLDER [STEP]``.

It goes on from the newest checkpoint in the folder, of which it writes one every five
steps, and dies before step STEP.
"""

import os
import signal
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax

import optax_adaptive
from optax_adaptive import controllers, scale_by_controller
from optax_adaptive.state import snapshots
from tests.helpers.regression import squared_error, student, teacher, wraps

STEPS, BETWEEN_CHECKPOINTS = 320, 5
FIRST_BAD, BAD = 200, 10  # the tenth loss that is not finite rolls back


def make(method):
    if method == "autotune":
        return optax_adaptive.autotune(optax.adam(0.1), total_steps=400)
    if method == "learned":
        return wraps(controllers.learned(), optimizer=optax.adam(0.1))
    rule = scale_by_controller(controllers.REGISTRY[method](), accumulation_size=4)
    return optax_adaptive.with_averaging(
        optax_adaptive.with_rollback(optax.chain(optax.adam(0.1), rule))
    )


def newest(folder):
    return max(folder.glob("*.npz"), key=lambda path: int(path.stem), default=None)


def save(folder, step, tree):
    part = folder / "part"
    with part.open("wb") as file:
        np.savez(file, *map(np.asarray, jax.tree.leaves(tree)))
    part.rename(folder / f"{step}.npz")  # it is whole, or not there


def main(method, folder, last=STEPS + 1):
    tx = make(method)

    @jax.jit
    def update(carry, index):
        params, state = carry
        batch = teacher(jax.random.key(index))
        loss, grads = jax.value_and_grad(squared_error)(params, batch)
        is_bad = (index >= FIRST_BAD) & (index < FIRST_BAD + BAD)
        loss = jnp.where(is_bad, jnp.nan, loss)
        updates, state = tx.update(grads, state, params, value=loss)
        return optax.apply_updates(params, updates), state

    params = student(jax.random.key(0))
    carry, step = (params, tx.init(params)), 0
    if (path := newest(folder)) is not None:
        step = int(path.stem)
        with np.load(path) as arrays:
            leaves = [arrays[name] for name in arrays.files]
        carry = jax.tree.unflatten(jax.tree.structure(carry), leaves)
    while step < STEPS:
        snapshot = snapshots.find(carry[1])
        phase = optax_adaptive.summary(carry[1])["phase"]
        print(step, int(phase), int(snapshot.is_restored), flush=True)
        if step == last:
            os.kill(os.getpid(), signal.SIGKILL)
        carry, step = update(carry, np.int32(step)), step + 1
        if step % BETWEEN_CHECKPOINTS == 0:
            save(folder, step, carry)


if __name__ == "__main__":
    jax.config.update("jax_numpy_rank_promotion", "raise")
    main(sys.argv[1], Path(sys.argv[2]), *map(int, sys.argv[3:]))
