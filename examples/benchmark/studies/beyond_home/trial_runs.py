"""What a trial run tells: its loss by rate, by length, with momentum and without.

    cd examples && python -m benchmark.studies.beyond_home.trial_runs

Runs of Adam from the first parameters, annealed to 0 as those of earlier searches were;
the loss is that on 1,000 training images, which has little of the noise of the few
batches that a search goes by.
"""

import argparse
from pathlib import Path

import jax
import jax.numpy as jnp
import optax

from benchmark.studies.beyond_home.tasks import TRAININGS
from benchmark.tables import markdown
from benchmark.tasks.task import Array, Task
from data import prepared

RATES = (0.1, 0.03, 0.01, 0.003, 0.001, 0.0003)


def final_loss(task: Task, momentum: float, seed: Array, rate: Array, steps: Array):
    """Loss on training data after so many steps."""
    key = jax.random.key(seed)
    keys = jax.random.fold_in(key, 1)
    tx = optax.adam(1.0, b1=momentum)

    def step(count, carry):
        params, state = carry
        grads = jax.grad(task.loss)(params, jax.random.fold_in(keys, count))
        updates, state = tx.update(grads, state, params)
        updates = optax.tree.scale(rate * (1.0 - count / steps), updates)
        return optax.apply_updates(params, updates), state

    params = task.init(key)
    params, _ = jax.lax.fori_loop(0, steps, step, (params, tx.init(params)))
    return task.evaluate(params, "train")


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--task", default="deep_residual", choices=TRAININGS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1])
    parser.add_argument("--steps", nargs="+", type=int, default=[18, 36, 72])
    parser.add_argument("--data-dir", type=Path, default=prepared.default_dir())
    flags = parser.parse_args()
    task = TRAININGS[flags.task](flags.data_dir).task
    rows = []
    for momentum in (0.9, 0.0):
        run = jax.jit(lambda *of, b1=momentum: final_loss(task, b1, *of))
        for steps in flags.steps:
            losses = [
                [float(run(seed, rate, steps)) for seed in flags.seeds]
                for rate in RATES
            ]
            means = jnp.array(losses).mean(1)
            rows.append([f"{momentum:g}", str(steps), *(f"{x:.2f}" for x in means)])
    print(markdown(["momentum", "steps", *(f"{rate:g}" for rate in RATES)], rows))


if __name__ == "__main__":
    main()
