"""What is evaluated while a good model is fine-tuned: is it ever worse than at first?

A perceptron for digits, trained on one half of the images and fine-tuned on the other
by autotune, and by Adam alone at 1e-3. At each of 500 steps the test accuracy of
``eval_params`` is read, and that of the parameters themselves::

    cd examples && python -m benchmark.studies.reliability.served
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import optax

import optax_adaptive
from benchmark import records
from benchmark.studies.reliability.run import (
    BATCH,
    first_params,
    logits,
    loss_fn,
    read_digits,
)
from benchmark.tables import markdown

RESULTS = Path(__file__).with_name("served.jsonl")
PRETRAINED, STEPS = 1000, 500
ADAM = "Adam alone"
METHODS = {
    f"autotune{', interpolate' * interpolate}{', total_steps' * is_known}": (
        interpolate,
        is_known,
    )
    for interpolate in (False, True)
    for is_known in (False, True)
} | {ADAM: (False, False)}


def make_tx(method: str) -> optax.GradientTransformationExtraArgs:
    """Around Adam, whose base rate does not matter; or Adam itself."""
    if method == ADAM:
        return optax.with_extra_args_support(optax.adam(1e-3))
    interpolate, is_known = METHODS[method]
    adam = optax.adam(1e-3, b1=0.0 if interpolate else 0.9)
    steps = STEPS if is_known else None
    return optax_adaptive.autotune(adam, total_steps=steps, interpolate=interpolate)


def make_run(method: str) -> Callable[[int], dict[str, jax.Array]]:
    """A jitted function of the seed: test accuracies in percent."""
    (images, labels), (test_images, test_labels) = read_digits()
    half = images.shape[0] // 2

    def accuracy(params):
        guesses = logits(params, test_images).argmax(axis=1)
        return 100.0 * (guesses == test_labels).mean()

    def trained(tx, params, key, part, steps, look):
        tx = optax.with_extra_args_support(tx)

        def step(carry, key):
            params, state = carry
            batch = jax.random.choice(key, part, (BATCH,))
            loss, grads = jax.value_and_grad(loss_fn)(
                params, images[batch], labels[batch]
            )
            updates, state = tx.update(grads, state, params, value=loss)
            params = optax.apply_updates(params, updates)
            return (params, state), look(state, params)

        start = params, tx.init(params)
        return jax.lax.scan(step, start, jax.random.split(key, steps))

    def both(state, params):
        if method == ADAM:
            return accuracy(params), accuracy(params), False
        served = optax_adaptive.eval_params(state, params)
        is_search = optax_adaptive.summary(state)["phase"] < 3
        return accuracy(served), accuracy(params), is_search

    @jax.jit
    def run(seed):
        parts = jax.random.permutation(jax.random.key(0), images.shape[0])
        keys = jax.random.split(jax.random.key(seed), 3)
        (params, _), _ = trained(
            *(optax.adam(1e-3), first_params(keys[0]), keys[1], parts[:half]),
            *(PRETRAINED, lambda state, params: None),
        )
        _, (served, own, is_search) = trained(
            *(make_tx(method), params, keys[2], parts[half:], STEPS, both)
        )
        return {
            "first": accuracy(params),
            "lowest_in_search": jnp.min(served, initial=100.0, where=is_search),
            "lowest_after": jnp.min(served, initial=100.0, where=~is_search),
            "search_steps": is_search.sum(),
            "last_served": served[-1],
            "lowest": own.min(),
        }

    return run


def measure(output: Path, seeds: list[int]) -> None:
    """Runs what ``output`` lacks, a line a run."""
    done = {(row["method"], row["seed"]) for row in records.rows(output)}
    with records.open_to_append(output) as file:
        for method in METHODS:
            run = make_run(method)
            lines = [
                {"seed": seed} | {k: records.number(v) for k, v in run(seed).items()}
                for seed in seeds
                if (method, seed) not in done
            ]
            if lines:
                config = {"method": method, "steps": STEPS, "batch": BATCH}
                records.write(file, [records.header(config, 0.0), *lines])


def table(lines: list[records.Line]) -> str:
    """By method: the first accuracy, and the lowest of all steps and seeds.

    Of Adam alone there is no search.
    """
    runs = [line for line in lines if "header" not in line]
    body = []
    for method in METHODS:
        rows = [row for row in runs if row["method"] == method]
        first = sum(row["first"] for row in rows) / len(rows)
        last = sum(row["last_served"] for row in rows) / len(rows)
        worst = [
            f"{min(row[name] - row['first'] for row in rows):+.1f}"
            for name in ("lowest_in_search", "lowest_after")
        ]
        if method == ADAM:
            worst[0] = ""
        own = min(row["lowest"] for row in rows)
        body.append([method, f"{first:.1f}", f"{last:.1f}", *worst, f"{own:.1f}"])
    header = ["method", "first", "last", "worst change in the search", "and after it"]
    header += ["params, lowest"]
    return markdown(header, body)


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
