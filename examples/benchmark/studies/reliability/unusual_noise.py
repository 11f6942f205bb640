"""Losses that do not rise, but are no independent normal noise: does it roll back?

Streams of 20,000 losses at a rate of 0, and trainings of 10,000 steps on digits: by
single images, with weights of heavy tails, in the order of the classes. The bare
optimizer is Adam at 1e-3 with an average::

    cd examples && python -m benchmark.studies.reliability.unusual_noise
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import optax_adaptive
from benchmark import records
from benchmark.studies.reliability import run
from benchmark.tables import markdown
from optax_adaptive import controllers

RESULTS = Path(__file__).with_name("unusual_noise.jsonl")
VALUES, STEPS = 20_000, 10_000
PERIOD, WINDOW = 500, 200  # steps through all classes; images that a batch is from

Draw = Callable[[np.random.Generator], np.ndarray]


def correlated(share: float) -> Draw:
    """Normal losses of which this share stays from one to the next, around 1."""

    def draw(rng: np.random.Generator) -> np.ndarray:
        noise = np.sqrt(1 - share**2) * rng.normal(size=VALUES)
        for place in range(1, VALUES):
            noise[place] += share * noise[place - 1]
        return 1 + 0.1 * noise

    return draw


STREAMS: dict[str, Draw] = {
    "normal": lambda rng: 1 + 0.1 * rng.normal(size=VALUES),
    "exponential": lambda rng: rng.exponential(size=VALUES),
    "log-normal, σ = 1": lambda rng: rng.lognormal(sigma=1, size=VALUES),
    "log-normal, σ = 2": lambda rng: rng.lognormal(sigma=2, size=VALUES),
    "size of Student's t, 2 degrees": lambda rng: np.abs(rng.standard_t(2, VALUES)),
    "1 in 3% of the batches, else 0": lambda rng: 1.0 * (rng.random(VALUES) < 0.03),
    "1 in 1% of the batches, else 0": lambda rng: 1.0 * (rng.random(VALUES) < 0.01),
    "correlated, 0.5": correlated(0.5),
    "correlated, 0.9": correlated(0.9),
    "correlated, 0.99": correlated(0.99),
    "rising by half a standard deviation each 500, and back": lambda rng: (
        1 + 0.1 * (np.arange(VALUES) % 500 / 1000 + rng.normal(size=VALUES))
    ),
}


class Data(NamedTuple):
    """How a training draws its batches."""

    batch: int = 64
    wrong: float = 0.0  # share of the labels that are drawn anew
    spread: float = 0.0  # σ of the logarithm of a batch's weight
    is_sorted: bool = False  # by class, a neighbourhood at a time


TRAININGS = {
    "batches of 64": Data(),
    "batches of 4": Data(batch=4),
    "single images, 10% of the labels wrong": Data(batch=1, wrong=0.1),
    "weights log-normal, σ = 1.5, 20% wrong": Data(wrong=0.2, spread=1.5),
    "in the order of the classes": Data(is_sorted=True),
}
METHODS = {
    "averaged": lambda: optax_adaptive.with_averaging(optax.adam(1e-3)),
    "with_rollback": lambda: optax_adaptive.with_averaging(
        optax_adaptive.with_rollback(
            optax.chain(
                optax.adam(1e-3),
                optax_adaptive.scale_by_controller(controllers.constant()),
            )
        )
    ),
    "autotune": lambda: optax_adaptive.autotune(optax.adam(1e-3)),
    "autotune, total_steps": lambda: optax_adaptive.autotune(
        optax.adam(1e-3), total_steps=STEPS
    ),
}


def numbers(state: Any) -> dict[str, jax.Array]:
    """Of ``summary``, those that this study is about."""
    try:
        found = optax_adaptive.summary(state)
    except ValueError:  # the bare optimizer has none
        found = {}
    none = jnp.zeros((), jnp.int32)
    return {
        name: found.get(name, none) for name in ("rollbacks", "backoffs", "is_waiting")
    }


def of_steps(states: dict[str, jax.Array]) -> dict[str, Any]:
    """Counts at the last step, and the share of the steps spent at the copy."""
    return {
        "rollbacks": int(states["rollbacks"][-1]),
        "backoffs": int(states["backoffs"][-1]),
        "waiting": records.number(np.mean(states["is_waiting"])),
    }


def follow(values: np.ndarray) -> dict[str, Any]:
    """What ``with_rollback`` does about a stream of losses."""
    tx = optax_adaptive.with_rollback(optax.sgd(0.0))
    params, grads = jnp.zeros(()), jnp.ones(())

    @jax.jit
    def states_of(values):
        def step(state, value):
            _, state = tx.update(grads, state, params, value=value)
            return state, numbers(state)

        return jax.lax.scan(step, tx.init(params), values)[1]

    return of_steps(jax.device_get(states_of(jnp.asarray(values, jnp.float32))))


def make_training(data: Data, method: str) -> Callable[[jax.Array], Any]:
    """A jitted function of the seed: the accuracy, and the numbers of each step."""
    (images, labels), (test_images, test_labels) = run.read_digits()
    size = labels.shape[0]
    order = jnp.argsort(labels) if data.is_sorted else jnp.arange(size)
    tx = METHODS[method]()

    def loss_fn(params, batch, targets, weight):
        return weight * run.loss_fn(params, images[batch], targets[batch])

    @jax.jit
    def train(seed):
        key = jax.random.key(seed)
        keys = jax.random.split(jax.random.fold_in(key, 1), 4)
        is_wrong = jax.random.bernoulli(keys[0], data.wrong, (size,))
        drawn = jax.random.randint(keys[1], (size,), 0, 10)
        targets = jnp.where(is_wrong, drawn, labels)

        def step(carry, index):
            params, state = carry
            batch_key, weight_key = (jax.random.fold_in(k, index) for k in keys[2:])
            if data.is_sorted:
                center = index % PERIOD * size // PERIOD
                near = jax.random.randint(batch_key, (data.batch,), -WINDOW, WINDOW)
                batch = order[(center + near) % size]
            else:
                batch = jax.random.randint(batch_key, (data.batch,), 0, size)
            weight = jnp.exp(data.spread * jax.random.normal(weight_key))
            loss, grads = jax.value_and_grad(loss_fn)(params, batch, targets, weight)
            updates, state = tx.update(grads, state, params, value=loss)
            return (optax.apply_updates(params, updates), state), numbers(state)

        params = run.first_params(key)
        start = params, tx.init(params)
        (params, state), states = jax.lax.scan(step, start, jnp.arange(STEPS))
        served = run.evaluated(state, params)
        guesses = run.logits(served, test_images).argmax(axis=1)
        return 100 * (guesses == test_labels).mean(), states

    return train


def measure(output: Path, seeds: list[int]) -> None:
    """Runs what ``output`` lacks, a line a run."""
    done = {(row["task"], row["method"], row["seed"]) for row in records.rows(output)}
    with records.open_to_append(output) as file:
        for case in (*STREAMS, *TRAININGS):
            is_stream = case in STREAMS
            for method in ["stream"] if is_stream else METHODS:
                missing = [seed for seed in seeds if (case, method, seed) not in done]
                if not missing:
                    continue
                config = {"study": "unusual_noise", "task": case, "method": method}
                records.write(file, [records.header(config, 0.0)])
                train = None if is_stream else make_training(TRAININGS[case], method)
                for seed in missing:
                    if train is None:
                        row = follow(STREAMS[case](np.random.default_rng(seed)))
                    else:
                        accuracy, states = jax.device_get(train(jnp.int32(seed)))
                        row = {"accuracy": records.number(accuracy)} | of_steps(states)
                    records.write(file, [{"seed": seed} | row])
                    print(case, method, seed, row, flush=True)


def mean(rows: list[dict[str, Any]], name: str) -> float:
    """Over seeds."""
    return float(np.mean([row[name] for row in rows]))


def table(lines: list[records.Line]) -> str:
    """Streams, then trainings: rollbacks, and what they cost; means over seeds."""
    rows = [row for row in lines if "header" not in row]

    def of(case: str, method: str) -> list[dict[str, Any]]:
        return [row for row in rows if (row["task"], row["method"]) == (case, method)]

    def cells(found: list[dict[str, Any]]) -> list[str]:
        counts = [f"{mean(found, name):.3g}" for name in ("rollbacks", "backoffs")]
        return [*counts, f"{100 * mean(found, 'waiting'):.2g}%"]

    streams = [[case, *cells(of(case, "stream"))] for case in STREAMS]
    trainings = [
        [
            *(case, f"`{method}`" if method != "averaged" else "Adam, averaged"),
            f"{mean(of(case, method), 'accuracy'):.1f}",
            *(cells(of(case, method)) if method != "averaged" else 3 * [""]),
        ]
        for case in TRAININGS
        for method in METHODS
    ]
    header = ["rollbacks", "back-offs", "steps at the copy"]
    return "\n".join(
        [
            markdown(["losses", *header], streams),
            markdown(["training", "method", "% correct", *header], trainings),
        ]
    )


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
