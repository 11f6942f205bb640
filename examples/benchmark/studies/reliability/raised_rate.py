"""Is a rate that is far too high still found out? It is raised by hand at half-time.

autotune on the seven tasks of the benchmark. At half of the steps the factor in its
state is multiplied by 1, 10 and 100. A run is lost if it ends with what is not finite,
or worse than it was when the rate was raised::

    cd examples && python -m benchmark.studies.reliability.raised_rate
"""

import argparse
from pathlib import Path
from typing import Any

import jax
import optax

import optax_adaptive
from benchmark import records, tasks
from benchmark.studies.reliability import grid
from benchmark.tables import markdown
from benchmark.tasks.task import Task
from optax_adaptive import ScaleByControllerState

RESULTS = Path(__file__).with_name("raised_rate.jsonl")
FACTORS = (1, 10, 100)


def raised(state: Any, factor: jax.Array) -> Any:
    """The state with the factor of its rule multiplied."""

    def is_rule(node):
        return isinstance(node, ScaleByControllerState)

    def edit(node):
        return node._replace(lr_scale=node.lr_scale * factor) if is_rule(node) else node

    return jax.tree.map(edit, state, is_leaf=is_rule)


def make_run(task: Task, method: str) -> grid.Run:
    """A jitted function of seed and factor."""
    tx = grid.METHODS[method]()

    def step(carry, key):
        params, state = carry
        loss, grads = jax.value_and_grad(task.loss)(params, key)
        updates, state = tx.update(grads, state, params, value=loss)
        return (optax.apply_updates(params, updates), state), None

    def evaluated(carry):
        params, state = carry
        return task.evaluate(optax_adaptive.eval_params(state, params), "test")

    @jax.jit
    def run(seed, factor):
        key = jax.random.key(seed)
        params = task.init(key)
        keys = jax.random.split(jax.random.fold_in(key, 1), task.steps)
        half = task.steps // 2
        before, _ = jax.lax.scan(step, (params, tx.init(params)), keys[:half])
        params, state = before
        after, _ = jax.lax.scan(step, (params, raised(state, factor)), keys[half:])
        numbers = optax_adaptive.summary(after[1])
        return {
            "half": evaluated(before),
            "end": evaluated(after),
            "scale_at_half": optax_adaptive.lr_scale(state),
            "scale_at_end": numbers["lr_scale"],
            "rollbacks": numbers["rollbacks"],
        }

    return run


def is_lost(row: records.Line) -> bool:
    """Whether a run ends with what is not finite, or worse than at half-time.

    Worse by more than a point of accuracy, or 2% of a loss, which chance explains.
    """
    if row["end"] is None:
        return True
    if row["task"] in tasks.ACCURACY:
        return row["end"] < row["half"] - 1.0
    return row["end"] > 1.02 * row["half"]


def table(lines: list[records.Line]) -> str:
    """Mean test metrics by factor; runs that were lost are counted."""
    body = []
    for task, method, by_factor in grid.cells(lines):
        shown = []
        for factor in FACTORS:
            mine = by_factor[factor]
            mean = grid.mean(row["end"] for row in mine)
            lost = sum(map(is_lost, mine))
            shown.append(f"{mean:.4g}" + (f" (**{lost} lost**)" if lost else ""))
        half = [row["half"] for mine in by_factor.values() for row in mine]
        body.append([task, method, f"{sum(half) / len(half):.4g}", *shown])
    header = ["task", "method", "at half-time", *(f"x{factor}" for factor in FACTORS)]
    return markdown(header, body)


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--tasks", nargs="+", default=list(tasks.TASKS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1])
    args = parser.parse_args()
    grid.measure(args.output, make_run, args.tasks, FACTORS, args.seeds)
    print(table(records.read(args.output)))


if __name__ == "__main__":
    main()
