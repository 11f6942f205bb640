"""docs/anatomy.png: one run of autotune, with its phases shaded and labelled.

A small perceptron learns scikit-learn's handwritten digits, under noise, by Adam inside
autotune, from a base learning rate a thousand times too small. Seconds on a CPU core::

    python examples/anatomy.py --output docs/anatomy.png
"""

import argparse
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import optax_adaptive
from benchmark import pictures
from optax_adaptive import integrations

BASE_RATE = 1e-6
BATCH_SIZE = 32
STEPS = 1200
NOISE = 0.4  # standard deviation, of pixels in [0, 1]


def first_params(key: jax.Array) -> dict[str, jax.Array]:
    """64-64-10, without biases."""
    hidden, logits = jax.random.split(key)
    return {
        "hidden": jax.random.normal(hidden, (64, 64)) / 8.0,
        "logits": jax.random.normal(logits, (64, 10)) / 8.0,
    }


def loss_fn(params: Any, x: jax.Array, y: jax.Array) -> jax.Array:
    """Mean cross entropy of images (B, 64) with labels (B,)."""
    logits = jax.nn.gelu(x @ params["hidden"]) @ params["logits"]
    return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()


def train(steps: int, seed: int) -> list[dict[str, Any]]:
    """The log of a run: a row a step."""
    images, labels = load_digits(return_X_y=True)
    images = (images / 16).astype(np.float32)
    x, x_test, y, y_test = map(
        jnp.asarray,
        train_test_split(images, labels, test_size=360, random_state=seed),
    )
    tx = optax_adaptive.autotune(optax.adam(BASE_RATE))

    x_test += NOISE * jax.random.normal(jax.random.key(seed), x_test.shape)

    def step(carry, key):
        params, opt_state = carry
        chosen, noise = jax.random.split(key)
        batch = jax.random.randint(chosen, (BATCH_SIZE,), 0, len(x))
        noisy = x[batch] + NOISE * jax.random.normal(noise, (BATCH_SIZE, 64))
        loss, grads = jax.value_and_grad(loss_fn)(params, noisy, y[batch])
        updates, opt_state = tx.update(grads, opt_state, params, value=loss)
        params = optax.apply_updates(params, updates)
        averaged = optax_adaptive.eval_params(opt_state, params)
        row = {"loss": loss, "eval_loss": loss_fn(averaged, x_test, y_test)}
        return (params, opt_state), row | optax_adaptive.summary(opt_state)

    first, batches = jax.random.split(jax.random.key(seed))
    params = first_params(first)
    carry = params, tx.init(params)
    _, columns = jax.jit(lambda keys: jax.lax.scan(step, carry, keys))(
        jax.random.split(batches, steps)
    )
    columns = {name: np.asarray(column) for name, column in columns.items()}
    return [
        {"step": step} | {name: column[step] for name, column in columns.items()}
        for step in range(steps)
    ]


def main() -> None:
    """Trains, prints what the run came to, and writes the picture."""
    parser = argparse.ArgumentParser(description="Draw one run of autotune.")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=Path("anatomy.png"))
    flags = parser.parse_args()
    log = train(flags.steps, flags.seed)
    words = [optax_adaptive.in_words(row) for row in log]
    for place, (row, named) in enumerate(zip(log, words, strict=True)):
        if not place or named != words[place - 1]:
            rate = BASE_RATE * row["lr_scale"]
            print(f"{row['step']:5d}  {rate:.2e}  {', '.join(named.values())}")
    figure = integrations.plot_run(log, BASE_RATE)
    pictures.save(figure, flags.output, dpi=100)
    print(f"wrote {flags.output}; loss of the average {log[-1]['eval_loss']:.3f}")


if __name__ == "__main__":
    main()
