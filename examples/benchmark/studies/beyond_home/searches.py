"""What the search of autotune sees and finds: where the gradient turns, and the rate.

    cd examples && python -m benchmark.studies.beyond_home.searches

A line of searches.jsonl is a search alone, without the run that follows. What is there
is not run again.
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

import optax_adaptive
from benchmark import records
from benchmark.studies.beyond_home import methods, run
from benchmark.studies.beyond_home.tasks import TRAININGS
from benchmark.studies.beyond_home.tasks.training import Training
from benchmark.tables import markdown
from data import prepared
from optax_adaptive import controllers
from optax_adaptive.controllers.search import settings
from optax_adaptive.state.controller_state import ScaleByControllerState
from optax_adaptive.state.packing import unpack
from optax_adaptive.state.tag import unwrap_any
from optax_adaptive.state.trees import nodes_of
from optax_adaptive.transforms._observation import layout

RESULTS = Path(__file__).with_name("searches.jsonl")
TASKS = (
    "perceptron_short",
    "perceptron_full",
    "convolution_short",
    "convolution_full",
    "deep_convolution",
    "diffusion",
    "gpt_full",
    "vision_transformer",
    "lstm_10k",
    "demand_10k",
    "noisy_10k",
)
METHOD = "autotune_anytime"  # with ``total_steps`` the search is the same
MOST_STEPS = 3000
WINDOW = 32  # of ``scale_by_controller``, by default


class Searched(NamedTuple):
    """A search that has ended, and what passed on the way."""

    params: Any
    opt_state: Any
    steps: jax.Array  # shape=(), dtype=int32
    range_steps: jax.Array  # shape=(), dtype=int32: of them, of the range test


def state_of(opt_state: Any, rule: optax_adaptive.Controller) -> settings.SearchState:
    """The state of the search, inside that of ``autotune``, whose rule is ``rule``."""
    (state,) = nodes_of(opt_state.inner_state.inner_state, ScaleByControllerState)
    words = unwrap_any(state.controller_memory)
    return unpack(layout(rule, WINDOW), words).controller_state.first_state


def make_search(subject: Training) -> Callable[[jax.Array], dict[str, Any]]:
    """A function of the seed, to be jitted: the numbers of a line."""
    task = subject.task
    rule, base = controllers.tuned(), methods.BASE_RATE
    tx = optax_adaptive.autotune(subject.optimizer(base))

    def search(seed: jax.Array) -> dict[str, Any]:
        key = jax.random.key(seed)
        keys = jax.random.fold_in(key, 1)

        def is_searching(searched):
            stage = state_of(searched.opt_state, rule).stage
            return (stage < settings.WARM_UP) & (searched.steps < MOST_STEPS)

        def step(searched):
            step_key = jax.random.fold_in(keys, searched.steps)
            params = searched.params
            loss, grads = jax.value_and_grad(task.loss)(params, step_key)
            updates, opt_state = tx.update(
                grads, searched.opt_state, params, value=loss
            )
            state = state_of(opt_state, rule)
            return Searched(
                params=optax.apply_updates(params, updates),
                opt_state=opt_state,
                steps=searched.steps + 1,
                range_steps=searched.range_steps + (state.stage == settings.RANGE_TEST),
            )

        params = task.init(key)
        zero = jnp.zeros((), jnp.int32)
        start = Searched(params, tx.init(params), zero, zero)
        ended = jax.lax.while_loop(is_searching, step, start)
        state = state_of(ended.opt_state, rule)
        return {
            "steps": ended.steps,
            "range_steps": ended.range_steps,
            "first_loss": state.found.first_value,
            "deviation": state.found.standard_deviation,
            "turned_at": base * jnp.exp(state.turned_at),
            "trials": state.trials,
            "found": base * jnp.exp(state.found.log_scale),
        }

    return search


def measure(output: Path, tasks: list[str], seeds: list[int], data_dir: Path) -> None:
    """Searches that ``output`` lacks, a line each."""
    done = {(row["task"], row["seed"]) for row in records.rows(output)}
    with records.open_to_append(output) as file:
        for task in tasks:
            missing = [seed for seed in seeds if (task, seed) not in done]
            if not missing:
                continue
            search = jax.jit(make_search(run.make_training(task, data_dir)))
            config = {"study": "searches", "task": task, "method": METHOD}
            records.write(file, [records.header(config, 0.0)])
            for seed in missing:
                found = jax.device_get(search(jnp.int32(seed)))
                line = {k: records.numbers(v, 4) for k, v in found.items()}
                records.write(file, [{"seed": seed} | line])
                print(task, seed, line["turned_at"], line["found"], flush=True)


def table(rows: list[dict[str, Any]], of_schedules: list[dict[str, Any]]) -> str:
    """A row a task; ``of_schedules`` say what rate was best."""
    cells = []
    for task in dict.fromkeys(row["task"] for row in rows):
        own = [row for row in rows if row["task"] == task]
        best = run.tuned_rate(of_schedules, task, "constant, warm-up, averaged")
        cells.append(
            [
                task,
                str(len(own)),
                spread([row["steps"] for row in own]),
                spread([row["turned_at"] for row in own]),
                spread([row["trials"] for row in own]),
                spread([row["found"] for row in own]),
                "" if best is None else f"{best:.2g}",
            ]
        )
    header = ["task", "searches", "steps", "the gradient turns at", "trials"]
    return markdown([*header, "rate found", "best constant rate, averaged"], cells)


def spread(values: list[float]) -> str:
    """The least and the most of them."""
    least, most = (
        f"{x:,}" if isinstance(x, int) else f"{x:.2g}"
        for x in (min(values), max(values))
    )
    return least if least == most else f"{least} to {most}"


def main() -> None:
    """Searches, and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", nargs="+", default=TASKS, choices=TRAININGS)
    parser.add_argument("--seeds", nargs="+", type=int, default=list(range(8)))
    parser.add_argument("--data-dir", type=Path, default=prepared.default_dir())
    parser.add_argument("--output", type=Path, default=RESULTS)
    flags = parser.parse_args()
    measure(flags.output, list(flags.tasks), flags.seeds, flags.data_dir)
    print(table(records.rows(flags.output), records.rows(run.RESULTS)))


if __name__ == "__main__":
    main()
