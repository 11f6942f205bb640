"""Gradients of a sum, with the mean as value: does autotune find that out?

On four tasks of the benchmark, gradients are multiplied by 1, 64 and 1/64, and the
value is not. Adam goes by none of that, but the averaging gap is off by it::

    cd examples && python -m benchmark.studies.reliability.summed_loss
"""

import argparse
from pathlib import Path

import jax
import optax

import optax_adaptive
from benchmark import records
from benchmark.studies.reliability import grid
from benchmark.tables import markdown
from benchmark.tasks.task import Task

RESULTS = Path(__file__).with_name("summed_loss.jsonl")
TASKS = ("digits", "lstm", "transformer", "demand")
FACTORS = (1.0, 64.0, 1 / 64)


def make_run(task: Task, method: str) -> grid.Run:
    """A jitted function of seed and factor: the test metric."""
    tx = grid.METHODS[method]()

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
        keys = jax.random.split(jax.random.fold_in(key, 1), task.steps)
        (params, state), _ = jax.lax.scan(step, (params, tx.init(params)), keys)
        evaluated = optax_adaptive.eval_params(state, params)
        return {"end": task.evaluate(evaluated, "test")}

    return run


def table(lines: list[records.Line]) -> str:
    """Mean test metrics by factor."""
    body = []
    for task, method, by_factor in grid.cells(lines):
        ends = [[row["end"] for row in by_factor[factor]] for factor in FACTORS]
        body.append([task, method, *(f"{grid.mean(e):.4g}" for e in ends)])
    return markdown(["task", "method", "its own", "x64", "x1/64"], body)


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    args = parser.parse_args()
    grid.measure(args.output, make_run, TASKS, FACTORS, args.seeds)
    print(table(records.read(args.output)))


if __name__ == "__main__":
    main()
