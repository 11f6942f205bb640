r"""Do the online learners earn their place? Around good and bad anchors, to JSONL.

    cd examples && python -m benchmark.studies.online.run
    cd examples && python -m benchmark.studies.online.run --seeds 5 \
        --tasks noisy_10k diffusion --methods constant bandit q_learning actor_critic \
        --output benchmark/studies/online/long.jsonl

One line a seed; one that is there already is not repeated. The anchor is Adam under a
cosine schedule whose peak is the best of a grid by the rows of other studies (three
rates a decade), or that times 0.1 or 10, with the rule within averaging, which shows it
the averaging gap. Final metrics are those of the parameters, not of their average.
Seeds are paired: the same first parameters and batches for every method.

The ablations change one thing in a learner: `blind` to its state, or to the averaging
gap (`cost unseen`), `frozen` in its prior, with `no prior`, rewarded by the `raw loss`,
with `no anchor` but a constant rate, or another thing in the bandit (Thompson
sampling): `as wanted` does what it wants at once. `replay` repeats the mean log factor
of its run with the same seed.
"""

import argparse
import sys
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import optax_adaptive
from benchmark import measures, records, summaries
from benchmark.studies.base_rate import run as base_rate
from benchmark.studies.beyond_home import run as beyond_home
from benchmark.studies.beyond_home.tasks import TRAININGS
from benchmark.studies.online.rules import (
    ABLATIONS,
    LEARNERS,
    NO_ANCHOR,
    RULES,
    MakeRule,
)
from benchmark.tasks import TASKS
from benchmark.tasks.task import Task
from data import prepared
from methods import rules

RESULTS = Path(__file__).with_name("results.jsonl")

NAMES = ("digits", "noisy", "cnn", "lstm", "demand", "transformer")

# Of the study beyond_home, of 5,000 steps and more; not run unless asked for.
LONG = ("noisy_10k", "diffusion")

ANCHOR = "cosine"  # as rows name it

OFFSETS = (1.0, 0.1, 10.0)  # of the tuned peak

TRACE = 40  # entries of the recorded log factor

SHOWN = 5  # seeds of which a learner's is recorded whole, for the picture

REPLAY = ", replay"  # follows the name of a learner
METHODS = (*RULES, *ABLATIONS, *(name + REPLAY for name in LEARNERS))


@cache
def tuned_peaks() -> dict[str, float]:
    """The tuned cosine's peak of each task, by validation, in decades.

    Of the rows of the studies base_rate and beyond_home: with more of them it may be
    another, so a header says which one its rows had.
    """
    path = base_rate.RESULTS / "robustness.jsonl"
    cosines = summaries.of_method(measures.gather(records.read(path)), "adam", "cosine")
    rates = {task: runs.rates[measures.tuned(runs)] for task, runs in cosines.items()}
    longer = records.rows(beyond_home.RESULTS)
    rates |= {task: beyond_home.tuned_rate(longer, task, "cosine") for task in LONG}
    return {task: beyond_home.place_of(rate) / 3 for task, rate in rates.items()}


def read_rows(path: Path) -> list[records.Line]:
    """Rows with the tuned peak that their header names; None in a file without."""
    rows, peaks = [], {}
    for line in records.read(path):
        if "header" in line:
            peaks = line["header"].get("config", {}).get("peaks", {})
        else:
            rows.append(line | {"peak": peaks.get(line["task"])})
    return rows


def make_run(
    task: Task, make_rule: MakeRule | None, has_anchor: bool = True
) -> Callable:
    """A jitted run: peak, log factor, seeds -> metrics, log factors, last state.

    ``make_rule`` None is no rule but the constant factor; without ``has_anchor`` the
    base learning rate is constant.
    """
    size = rules.learner_window(task.steps)
    block = task.steps // TRACE

    def make(peak, seed):
        base = optax.adam(peak)
        if make_rule is not None:
            rule = optax_adaptive.scale_by_controller(
                make_rule(seed), accumulation_size=size
            )
            base = optax.chain(base, rule)
        decay = optax.constant_schedule(1.0)
        if has_anchor:
            decay = optax.cosine_decay_schedule(1.0, task.steps)
        tx = optax.chain(base, optax.scale_by_schedule(decay))
        return optax_adaptive.with_averaging(tx)

    def scaling(state: Any) -> Any:
        """The state of the rule's transformation; of the base if there is no rule."""
        return state.inner_state[0][1]

    def log_factor(state):
        return jnp.zeros(()) if make_rule is None else jnp.log(scaling(state).lr_scale)

    def run(peak, constant, seed):
        tx = optax.with_extra_args_support(make(peak * jnp.exp(constant), seed))
        key = jax.random.key(seed)
        params = task.init(key)

        def step(carry, key):
            params, state = carry
            loss, grads = jax.value_and_grad(task.loss)(params, key)
            updates, state = tx.update(grads, state, params, value=loss)
            return (optax.apply_updates(params, updates), state), log_factor(state)

        def to_checkpoint(carry, keys):
            carry, factors = jax.lax.scan(step, carry, keys)
            return carry, factors.mean()

        keys = jax.random.split(jax.random.fold_in(key, 1), TRACE * block)
        (params, state), factors = jax.lax.scan(
            to_checkpoint, (params, tx.init(params)), keys.reshape(TRACE, block)
        )
        return task.evaluate(params, "test"), factors, scaling(state)

    return jax.jit(jax.vmap(run, in_axes=(None, 0, 0)))


def make_task(name: str, data_dir: Path) -> Task:
    """A task of the benchmark, or a longer one."""
    if name in LONG:
        return TRAININGS[name](data_dir).task
    return TASKS[name](data_dir)


def main() -> None:
    """Runs what is asked for and is not there yet."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name, values, default in (
        ("tasks", (*NAMES, *LONG), NAMES),
        ("methods", METHODS, METHODS),
    ):
        parser.add_argument(
            f"--{name}", nargs="+", choices=values, default=default, metavar="NAME"
        )
    parser.add_argument("--offsets", nargs="+", type=float, default=OFFSETS)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--data-dir", type=Path, default=prepared.default_dir())
    parser.add_argument("--output", type=Path, default=RESULTS)
    args = parser.parse_args()
    rows, peaks = read_rows(args.output), tuned_peaks()

    def find(*names):
        keys = ("task", "anchor", "offset", "method", "peak")
        wanted = (*names, peaks[names[0]])  # a run at another peak is another run
        return [r for r in rows if tuple(r[k] for k in keys) == wanted]

    def seeds_without(*names):
        there = {row["seed"] for row in find(*names)}
        return [seed for seed in range(args.seeds) if seed not in there]

    with records.open_to_append(args.output) as output:
        for name in args.tasks:
            task = make_task(name, args.data_dir)
            for method in args.methods:
                missing = {
                    o: seeds_without(name, ANCHOR, o, method) for o in args.offsets
                }
                if not any(missing.values()):
                    continue
                start = time.time()
                runs = run_method(task, name, method, missing, find, peaks[name])
                rows += [row | {"peak": peaks[name]} for row in runs]
                seconds = round(time.time() - start, 1)
                config = {"task": name, "anchor": ANCHOR, "method": method}
                config |= {"peaks": {name: peaks[name]}}
                header = records.header(config, seconds)
                records.write(output, (header, *runs))
                print(name, method, f"{seconds} s", file=sys.stderr)


def run_method(task, name, method, missing, find, tuned_peak) -> list[dict]:
    """Seeds of a method, by offset from the tuned peak, which is in decades."""
    make_rule = (RULES | ABLATIONS).get(method)
    rows = []
    run = make_run(task, make_rule, not method.endswith(NO_ANCHOR))
    for offset, seeds in missing.items():
        log_factors = np.zeros(len(seeds))
        if method.endswith(REPLAY):
            replayed = {
                r["seed"]: r["mean_log_factor"]
                for r in find(name, ANCHOR, offset, method.removesuffix(REPLAY))
            }
            seeds = [seed for seed in seeds if seed in replayed]
            log_factors = np.array([replayed[seed] for seed in seeds])
        if not seeds:
            continue
        peak = jnp.float32(offset * 10**tuned_peak)
        metrics, traces, _ = run(peak, jnp.float32(log_factors), jnp.array(seeds))
        for seed, metric, trace in zip(seeds, metrics, traces, strict=True):
            row = {"task": name, "anchor": ANCHOR, "offset": offset}
            row |= {"method": method, "seed": seed}
            row["metric"] = records.number(metric)
            row["mean_log_factor"] = round(float(trace.mean()), 4)
            if method in LEARNERS and seed < SHOWN:
                row["log_factors"] = [round(float(x), 3) for x in trace]
            rows.append(row)
    return rows


if __name__ == "__main__":
    main()
