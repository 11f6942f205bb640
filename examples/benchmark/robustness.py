"""Does the base learning rate matter? Every method from every base rate, to JSONL.

    python examples/benchmark/robustness.py --data-dir ../shared/tfds

One line a run; a run whose line is there already is not repeated. The tuned cosine is
the best of its base rates (three a decade), by mean over seeds; methods that are meant
to need no tuning start from 1e-7 ... 10. robustness_report.py makes the tables.
"""

import argparse
import json
import platform
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tasks
from optax import contrib

import optax_adaptive
from optax_adaptive import controllers

RESULTS = Path(__file__).with_name("results") / "robustness.jsonl"
CHECKPOINTS = 40  # evaluations a run, equally spaced
BASE_RATES = [10.0**k for k in range(-7, 2)]
# Exponents in thirds of a decade of the cosine's grid, around each optimizer's best.
GRIDS = {
    "adam": range(-9, -2),
    "sgd": range(-4, 3),
    "momentum": range(-7, 0),
    "lion": range(-13, -6),
}


def base_optimizer(name: str, rate: Any) -> optax.GradientTransformation:
    """The optimizer at a rate, which may be traced."""
    makers = {
        "adam": optax.adam,
        "sgd": optax.sgd,
        "momentum": partial(optax.sgd, momentum=0.9),
        "lion": optax.lion,
    }
    return makers[name](rate)


def make_method(
    method: str, optimizer: str, rate: Any, steps: int
) -> optax.GradientTransformationExtraArgs:
    """A method at a base rate, with its own defaults elsewhere."""
    if method == "cosine":
        decay = optax.cosine_decay_schedule(1.0, steps)
        tx = optax.chain(
            base_optimizer(optimizer, rate), optax.scale_by_schedule(decay)
        )
    elif method == "constant":
        tx = base_optimizer(optimizer, rate)
    elif method == "autotune":
        base = base_optimizer(optimizer, rate)
        tx = optax_adaptive.autotune(base, total_steps=steps)
    elif method == "autotune_anytime":
        tx = optax_adaptive.autotune(base_optimizer(optimizer, rate))
    elif method == "reduce_on_plateau":
        plateau = contrib.reduce_on_plateau(patience=3, accumulation_size=20)
        tx = optax.chain(base_optimizer(optimizer, rate), plateau)
    elif method == "greedy":
        greedy = optax_adaptive.scale_by_controller(controllers.greedy())
        tx = optax.chain(base_optimizer(optimizer, rate), greedy)
    elif method == "prodigy":
        tx = contrib.prodigy(rate)
    elif method == "mechanize":
        tx = contrib.mechanize(base_optimizer(optimizer, rate))
    elif method == "dowg":
        tx = contrib.dowg(rate)
    elif method == "momo_adam":
        tx = contrib.momo_adam(rate)
    elif method == "schedule_free_adamw":
        tx = contrib.schedule_free_adamw(rate)
    else:
        raise ValueError(f"unknown method {method!r}")
    return optax.with_extra_args_support(tx)


PEERS = (
    "prodigy",
    "mechanize",
    "dowg",
    "momo_adam",
    "schedule_free_adamw",
    "reduce_on_plateau",
    "greedy",
)


def evaluation_params(method: str, state: Any, params: Any) -> Any:
    """What the method itself says should be evaluated."""
    if method.startswith("autotune"):
        return optax_adaptive.eval_params(state, params)
    if method == "schedule_free_adamw":
        return contrib.schedule_free_eval_params(state, params)
    return params


def make_run(task: tasks.Task, method: str, optimizer: str):
    """A jitted run: rate, seed -> metric at each checkpoint, what autotune found."""
    block = task.steps // CHECKPOINTS

    @jax.jit
    def run(rate, seed):
        tx = make_method(method, optimizer, rate, task.steps)
        key = jax.random.key(seed)
        params = task.init(key)

        def step(carry, key):
            params, state = carry
            loss, grads = jax.value_and_grad(task.loss)(params, key)
            updates, state = tx.update(grads, state, params, value=loss)
            return (optax.apply_updates(params, updates), state), None

        def to_checkpoint(carry, keys):
            (params, state), _ = jax.lax.scan(step, carry, keys)
            evaluated = evaluation_params(method, state, params)
            return (params, state), task.evaluate(evaluated)

        keys = jax.random.split(jax.random.fold_in(key, 1), CHECKPOINTS * block)
        (_, state), metrics = jax.lax.scan(
            to_checkpoint,
            (params, tx.init(params)),
            keys.reshape(CHECKPOINTS, block),
        )
        found = {}
        if method.startswith("autotune"):
            numbers = optax_adaptive.summary(state)
            found = {name: numbers[name] for name in ("found_scale", "rollbacks")}
        return metrics, found

    return run


def header(config: dict[str, Any]) -> dict[str, Any]:
    """What produced the lines that follow."""
    commit = subprocess.run(
        ["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False
    ).stdout.strip()
    return {
        "header": {
            "python": platform.python_version(),
            "jax": jax.__version__,
            "optax": optax.__version__,
            "optax_adaptive": optax_adaptive.__version__,
            "device": str(jax.devices()[0].device_kind),
            "commit": commit,
            "config": config,
        }
    }


def main() -> None:
    """Runs what is asked for and is not there yet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", nargs="+", default=tasks.NAMES)
    parser.add_argument("--optimizers", nargs="+", default=list(GRIDS))
    parser.add_argument(
        "--methods",
        nargs="+",
        default=["cosine", "autotune", "autotune_anytime", *PEERS],
    )
    parser.add_argument("--base-rates", nargs="+", type=float, default=BASE_RATES)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--data-dir", default="../shared/tfds")
    parser.add_argument("--output", type=Path, default=RESULTS)
    args = parser.parse_args()

    def key(row):
        names = ("task", "optimizer", "method", "base_rate", "seed")
        return tuple(row[name] for name in names)

    done = set()
    if args.output.exists():
        rows = map(json.loads, args.output.read_text().splitlines())
        done = {key(row) for row in rows if "header" not in row}
    config = {name: value for name, value in vars(args).items() if name != "output"}
    config.pop("data_dir")
    with args.output.open("a") as output:
        print(json.dumps(header(config)), file=output, flush=True)
        for name in args.tasks:
            task = tasks.make(name, args.data_dir)
            for optimizer in args.optimizers:
                for method in args.methods:
                    rates = args.base_rates
                    if method == "cosine":
                        rates = [10 ** (k / 3) for k in GRIDS[optimizer]]
                    run = make_run(task, method, optimizer)
                    for rate in rates:
                        for seed in range(args.seeds):
                            row = {
                                "task": name,
                                "optimizer": optimizer,
                                "method": method,
                                "base_rate": float(f"{rate:.3g}"),
                                "seed": seed,
                            }
                            if key(row) in done:
                                continue
                            start = time.time()
                            metrics, found = run(jnp.float32(rate), seed)
                            metrics = np.asarray(metrics, np.float64)
                            row |= {
                                "steps": task.steps,
                                "metrics": [float(f"{m:.5g}") for m in metrics],
                                "found": {k: float(v) for k, v in found.items()},
                                "seconds": round(time.time() - start, 1),
                            }
                            print(json.dumps(row), file=output, flush=True)
                    print(name, optimizer, method, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
