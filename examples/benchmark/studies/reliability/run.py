"""Faults against methods: does a bad batch cost more than the steps that it takes?

Digits by a perceptron of one hidden layer, 3,000 steps of Adam, once without a fault
and once with each. Beside the methods runs the bare optimizer inside
``optax.apply_if_finite``, at a good rate, which no fault that passes can confuse::

    cd examples && python -m benchmark.studies.reliability.run --output rows.jsonl
"""

import argparse
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from rich.progress import track
from sklearn.datasets import load_digits

import optax_adaptive
from benchmark import records
from benchmark.studies import forms
from benchmark.studies.reliability import faults

RESULTS = Path(__file__).with_name("results.jsonl")
STEPS, BATCH, HIDDEN = 3000, 64, 64
TESTED = 397  # images
SEARCHED = 400  # steps after which a search and its warm-up are over
METHODS = {
    "apply_if_finite": lambda: optax.apply_if_finite(optax.adam(1e-3), 10**6),
    "autotune": lambda: optax_adaptive.autotune(optax.adam(1e-3)),
    "autotune, total_steps": lambda: optax_adaptive.autotune(
        optax.adam(1e-3), total_steps=STEPS
    ),
    "autotune, interpolate": lambda: optax_adaptive.autotune(
        optax.adam(1e-3, b1=0.0), interpolate=True
    ),
    "learned": lambda: forms.learned(
        optax.adam(1e-3), total_steps=None, interpolate=False
    ),
    "with_rollback": lambda: optax_adaptive.with_rollback(optax.adam(1e-3)),
}


def first_params(key: jax.Array) -> dict[str, jax.Array]:
    """Weights of variance one over the inputs, and biases of 0."""
    one, other = jax.random.split(key)
    return {
        "hidden": jax.random.normal(one, (64, HIDDEN)) / 8,
        "hidden_bias": jnp.zeros(HIDDEN),
        "output": jax.random.normal(other, (HIDDEN, 10)) / HIDDEN**0.5,
        "output_bias": jnp.zeros(10),
    }


def logits(params: dict[str, jax.Array], images: jax.Array) -> jax.Array:
    """Of shape (images, 10)."""
    hidden = jax.nn.relu(images @ params["hidden"] + params["hidden_bias"])
    return hidden @ params["output"] + params["output_bias"]


def loss_fn(params, images, labels):
    """Mean cross entropy."""
    losses = optax.softmax_cross_entropy_with_integer_labels(
        logits(params, images), labels
    )
    return losses.mean()


def read_digits() -> tuple[tuple[jax.Array, jax.Array], tuple[jax.Array, jax.Array]]:
    """Training and test images, of values in [0, 1], with labels."""
    images, labels = load_digits(return_X_y=True)
    images, labels = jnp.asarray(images / 16, jnp.float32), jnp.asarray(labels)
    return (images[TESTED:], labels[TESTED:]), (images[:TESTED], labels[:TESTED])


def make_run(tx: optax.GradientTransformationExtraArgs, steps: int = STEPS):
    """A jitted function of seed, bad steps and their factors: what a run ends with."""
    (images, labels), (test_images, test_labels) = read_digits()
    tx = optax.with_extra_args_support(tx)

    def step(carry, now):
        params, state, key = carry
        is_bad, factors = now
        key, batch_key = jax.random.split(key)
        batch = jax.random.randint(batch_key, (BATCH,), 0, images.shape[0])
        loss, grads = jax.value_and_grad(loss_fn)(params, images[batch], labels[batch])
        loss, grads = faults.applied(is_bad, factors, loss, grads)
        updates, state = tx.update(grads, state, params, value=loss)
        params = optax.apply_updates(params, updates)
        return (params, state, key), scale_of(state)

    @jax.jit
    def run(seed, bad, factors):
        key = jax.random.key(seed)
        params = first_params(key)
        start = params, tx.init(params), jax.random.fold_in(key, 1)
        factors = jnp.broadcast_to(factors, (steps, 2))
        (params, state, _), scales = jax.lax.scan(step, start, (bad, factors))
        params = evaluated(state, params)
        guesses = logits(params, test_images).argmax(axis=1)
        return 100 * (guesses == test_labels).mean(), scales

    return run


def scale_of(state: Any) -> jax.Array:
    """The factor in force; 1 without a rule."""
    try:
        return optax_adaptive.lr_scale(state)
    except ValueError:
        return jnp.ones(())


def evaluated(state: Any, params: Any) -> Any:
    """The average, where the method keeps one."""
    try:
        return optax_adaptive.eval_params(state, params)
    except ValueError:
        return params


def measure(output: Path, names: list[str], seeds: list[int], only: str) -> None:
    """Runs what ``output`` lacks, a line a run."""
    done = {(row["method"], row["fault"], row["seed"]) for row in records.rows(output)}
    none = faults.Fault("none", "none", np.zeros(STEPS, bool))
    cases = [none] + [f for f in faults.faults(STEPS) if only in f"{f.kind}, {f.name}"]
    with records.open_to_append(output) as file:
        for name in names:
            run = make_run(METHODS[name]())
            bare = {seed: run(seed, *inputs(none)) for seed in seeds}
            config = {"method": name, "steps": STEPS, "batch": BATCH}
            lines = [records.header(config, 0.0)]
            for fault in track(cases, name):
                for seed in seeds:
                    key = name, f"{fault.kind}, {fault.name}", seed
                    if key not in done:
                        row = dict(zip(("method", "fault", "seed"), key, strict=True))
                        found = run(seed, *inputs(fault))
                        others = [bare[other][1] for other in seeds]
                        lines.append(row | measured(fault, found, bare[seed], others))
                records.write(file, lines)
                lines = []


def inputs(fault: faults.Fault) -> tuple[jax.Array, jax.Array]:
    """Which steps are bad, and the factors on loss and gradients there."""
    factors = faults.KINDS.get(fault.kind, (1.0, 1.0))
    return jnp.asarray(fault.steps), jnp.asarray(factors)


def measured(fault: faults.Fault, found, bare, others) -> dict[str, Any]:
    """Accuracy, points lost, and the rate over that of the run without the fault.

    That is read as many steps after a burst as it lasted, and not before a search that
    it may have delayed is over. Beside it is the factor between the highest and the
    lowest rate, at that step, of the runs without a fault (``others``).
    """
    accuracy, scales = map(np.asarray, found)
    bare_accuracy, bare_scales = map(np.asarray, bare)
    bad = np.flatnonzero(fault.steps)
    after = len(scales) - 1
    if bad.size and "at random" not in fault.name and " at " in fault.name:
        after = max(bad[-1] + 1 + bad.size, SEARCHED + bad.size)
    after = min(after, len(scales) - 1)
    return {
        "accuracy": records.number(accuracy),
        "lost": records.number(bare_accuracy - accuracy),
        "ratio": records.number(scales[after] / bare_scales[after]),
        "spread": records.number(np.ptp(np.log([s[after] for s in others]))),
    }


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--methods", nargs="+", default=list(METHODS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--only", default="", help="part of the name of a fault")
    args = parser.parse_args()
    measure(args.output, args.methods, args.seeds, args.only)


if __name__ == "__main__":
    main()
