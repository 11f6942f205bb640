"""Gradients of a sum, with the mean as value: does autotune find that out?

On four tasks of the benchmark, gradients are multiplied by 1, 64 and 1/64, and the
value is not. Adam goes by none of that, but the averaging gap is off by it::

    cd examples && python -m benchmark.studies.reliability.summed_loss
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import optax

import optax_adaptive
from benchmark import records, tasks
from benchmark.studies.reliability.raised_rate import METHODS
from benchmark.tables import markdown
from benchmark.tasks.task import Task
from data import prepared

RESULTS = Path(__file__).with_name("summed_loss.jsonl")
TASKS = ("digits", "lstm", "transformer", "demand")
FACTORS = (1.0, 64.0, 1 / 64)


def make_run(
    task: Task, tx: optax.GradientTransformationExtraArgs, steps: int
) -> Callable[..., jax.Array]:
    """A jitted function of seed and factor: the test metric."""

    @jax.jit
    def run(seed, factor):
        key = jax.random.key(seed)

        def step(carry, key):
            params, state = carry
            loss, grads = jax.value_and_grad(task.loss)(params, key)
            grads = jax.tree.map(lambda grad: factor * grad, grads)
            updates, state = tx.update(grads, state, params, value=loss)
            return (optax.apply_updates(params, updates), state), None

        params = task.init(key)
        keys = jax.random.split(jax.random.fold_in(key, 1), steps)
        (params, state), _ = jax.lax.scan(step, (params, tx.init(params)), keys)
        evaluated = optax_adaptive.eval_params(state, params)
        return task.evaluate(evaluated, "test")

    return run


def measure(output: Path, seeds: list[int]) -> None:
    """Runs what ``output`` lacks, a line a run."""
    fields = ("task", "method", "factor", "seed")
    done = {tuple(row[name] for name in fields) for row in records.rows(output)}
    with records.open_to_append(output) as file:
        for name in TASKS:
            task = tasks.TASKS[name](prepared.default_dir())
            for method, make in METHODS.items():
                run = make_run(task, make(), task.steps)
                config = {"task": name, "method": method, "steps": task.steps}
                lines = [
                    {"factor": factor, "seed": seed}
                    | {"end": records.number(run(seed, jnp.float32(factor)))}
                    for factor in FACTORS
                    for seed in seeds
                    if (name, method, factor, seed) not in done
                ]
                if lines:
                    records.write(file, [records.header(config, 0.0), *lines])


def table(lines: list[records.Line]) -> str:
    """Mean test metrics by factor."""
    rows = [line for line in lines if "header" not in line]
    names = dict.fromkeys((row["task"], row["method"]) for row in rows)
    body = []
    for task, method in names:
        cells = []
        for factor in FACTORS:
            mine = [
                row["end"]
                for row in rows
                if (row["task"], row["method"], row["factor"]) == (task, method, factor)
            ]
            cells.append(f"{sum(mine) / len(mine):.4g}")
        body.append([task, method, *cells])
    return markdown(["task", "method", "its own", "x64", "x1/64"], body)


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    args = parser.parse_args()
    measure(args.output, args.seeds)
    print(table(records.read(args.output)))


if __name__ == "__main__":
    main()
