"""Train one network from learning rates 1000x too small, right and 1000x too large.

The same MLP learns scikit-learn's handwritten digits by Adam, by Adam inside autotune,
and by Adam with a rule that follows the loss. Prints a table of final test accuracies
and draws the loss and the learning rate over time; in a picture of its own one run of
autotune, with its phases. Offline, about a minute on two CPU cores::

    python examples/quickstart.py

Expect 97% to 98% from every base rate with either, and from plain Adam only where the
base rate is right: at the smallest it has hardly begun, at the largest it guesses.
"""

import argparse
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
import optax
from flax import nnx
from matplotlib import pyplot as plt
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn
from rich.table import Table
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import optax_adaptive
from optax_adaptive import controllers, integrations

BASE_RATES = {"1000x too small": 1e-6, "right": 1e-3, "1000x too large": 1.0}
BATCH_SIZE = 64


def adam(learning_rate: float) -> optax.GradientTransformationExtraArgs:
    """What one would write without this library."""
    return optax.with_extra_args_support(optax.adam(learning_rate))


def autotuned_adam(learning_rate: float) -> optax.GradientTransformationExtraArgs:
    """Finds the rate by itself, maintains it, and averages the parameters."""
    return optax_adaptive.autotune(optax.adam(learning_rate))


def adam_and_rule(learning_rate: float) -> optax.GradientTransformationExtraArgs:
    """Adam, and one more link: a range test, then a rule that follows the loss."""
    rule = controllers.then(controllers.range_test(), controllers.trend())
    scaling = optax_adaptive.scale_by_controller(rule, accumulation_size=10)
    return optax.chain(optax.adam(learning_rate), scaling)


METHODS = {
    "Adam": adam,
    "autotune(Adam)": autotuned_adam,
    "Adam + range_test, trend": adam_and_rule,
}
COLORS = {
    "Adam": "tab:gray",
    "autotune(Adam)": "tab:orange",
    "Adam + range_test, trend": "tab:blue",
}


class MLP(nnx.Module):
    """64-128-64-10 with dropout 0.5."""

    def __init__(self, rngs: nnx.Rngs):
        """Initialises the three layers."""
        self.hidden1 = nnx.Linear(64, 128, rngs=rngs)
        self.hidden2 = nnx.Linear(128, 64, rngs=rngs)
        self.logits = nnx.Linear(64, 10, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps images (B, 64) to logits (B, 10)."""
        x = self.dropout(nnx.relu(self.hidden1(x)))
        x = self.dropout(nnx.relu(self.hidden2(x)))
        return self.logits(x)


@nnx.jit
def train_step(model: MLP, optimizer: nnx.Optimizer, x: jax.Array, y: jax.Array):
    """One update. The only change to an ordinary loop is ``value=loss``.

    Returns the loss, and what a log wants to know of the controller, if there is one.
    """

    def loss_fn(model):
        return optax.softmax_cross_entropy_with_integer_labels(model(x), y).mean()

    loss, grads = nnx.value_and_grad(loss_fn)(model)
    optimizer.update(model, grads, value=loss)
    state = nnx.as_pure(optimizer.opt_state)
    has_controller = optax.tree.get(state, "lr_scale") is not None
    return loss, optax_adaptive.summary(state) if has_controller else {}


class Run(NamedTuple):
    """What one training leaves behind."""

    accuracy: float  # on the test set, in percent
    losses: np.ndarray  # (steps,)
    scales: np.ndarray  # (steps,): factor of the base learning rate in force
    log: list[dict[str, Any]]  # a row a step, for plot_run


def train(
    tx: optax.GradientTransformation,
    averages: bool,
    seed: int,
    steps: int,
    data: Sequence[Any],
    advance: Callable[[], None],
) -> Run:
    """Trains one network; ``advance`` is called after every step."""
    x_train, x_test, y_train, y_test = data
    model = MLP(nnx.Rngs(seed))
    optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)
    # Else more than half of each step goes to taking the two apart and together again.
    step = nnx.cached_partial(train_step, model, optimizer)
    rng = np.random.default_rng(seed)
    log = []
    for place in range(steps):
        batch = rng.integers(0, len(x_train), BATCH_SIZE)
        loss, numbers = step(x_train[batch], y_train[batch])
        log.append({"step": place, "loss": loss} | numbers)
        advance()
    if averages:
        state, params = nnx.as_pure((optimizer.opt_state, nnx.state(model, nnx.Param)))
        nnx.update(model, optax_adaptive.eval_params(state, params))
    model.eval()
    accuracy = 100 * float(jnp.mean(jnp.argmax(model(x_test), -1) == y_test))
    log = jax.device_get(log)
    losses = np.array([row["loss"] for row in log])
    return Run(
        accuracy, losses, np.array([row.get("lr_scale", 1.0) for row in log]), log
    )


def print_table(runs: dict[tuple[str, str], list[Run]]) -> None:
    """Final test accuracy of every method from every base rate."""
    table = Table(title="Test accuracy in %, mean (lowest-highest seed)")
    table.add_column("base learning rate")
    for method in METHODS:
        table.add_column(method, justify="right")
    for name, base_rate in BASE_RATES.items():
        cells = []
        for method in METHODS:
            accuracies = [run.accuracy for run in runs[name, method]]
            low, high = min(accuracies), max(accuracies)
            cells.append(f"{np.mean(accuracies):.1f} ({low:.1f}-{high:.1f})")
        table.add_row(f"{base_rate:g} ({name})", *cells)
    Console(width=88).print(table)


def smooth(losses: np.ndarray, width: int = 20) -> np.ndarray:
    """Mean of the last ``width`` losses, so that curves can be told apart."""
    sums = np.cumsum(np.insert(losses, 0, 0.0))
    ends = np.arange(1, len(sums))
    starts = np.maximum(ends - width, 0)
    return (sums[ends] - sums[starts]) / (ends - starts)


def draw(runs: dict[tuple[str, str], list[Run]], path: Path) -> None:
    """Loss above, learning rate below, a column for each base rate, a line a seed."""
    figure, axes = plt.subplots(
        2, len(BASE_RATES), figsize=(12, 6.5), sharex=True, sharey="row"
    )
    for column, (name, base_rate) in enumerate(BASE_RATES.items()):
        top, bottom = axes[:, column]
        top.set_title(f"base learning rate {base_rate:g}\n({name})")
        for place, (method, color) in zip(
            (0.93, 0.85, 0.77), COLORS.items(), strict=True
        ):
            for run in runs[name, method]:
                top.plot(smooth(run.losses), color=color, lw=1.2)
                bottom.plot(base_rate * run.scales, color=color, lw=1.2)
            accuracy = np.mean([run.accuracy for run in runs[name, method]])
            top.text(
                0.97,
                place,
                f"{method}: {accuracy:.1f}% on test",
                color=color,
                ha="right",
                transform=top.transAxes,
            )
        bottom.set_xlabel("step")
    axes[0, 0].set(ylabel="training loss (mean of 20 steps)", yscale="log")
    # A diverged run's loss is in the millions: what tells methods apart is below 10.
    axes[0, 0].set_ylim(0.05, 30)
    axes[1, 0].set(ylabel="learning rate in force", yscale="log")
    figure.suptitle(
        "One network, one optimizer, three base learning rates (a line a seed)"
    )
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def main() -> None:
    """Parses flags, trains, prints the table and writes the picture."""
    parser = argparse.ArgumentParser(
        description="Train an MLP from right and wrong learning rates."
    )
    parser.add_argument("--steps", type=int, default=1500, help="steps of a training")
    parser.add_argument("--seeds", type=int, default=3, help="trainings of each kind")
    parser.add_argument("--output", type=Path, default=Path("quickstart.png"))
    flags = parser.parse_args()
    matplotlib.use("agg")

    images, labels = load_digits(return_X_y=True)
    images = (images / 16).astype(np.float32)
    data = train_test_split(
        images, labels, test_size=360, stratify=labels, random_state=0
    )
    runs: dict[tuple[str, str], list[Run]] = {}
    columns = ("{task.description}", BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeRemainingColumn()) as progress:
        total = len(BASE_RATES) * len(METHODS) * flags.seeds * flags.steps
        task = progress.add_task("training", total=total)
        for name, base_rate in BASE_RATES.items():
            for method in METHODS:
                progress.update(task, description=f"{method} from {base_rate:g}")
                tx = METHODS[method](base_rate)  # once: another tx compiles anew
                averages = method == "autotune(Adam)"
                advance = partial(progress.advance, task)
                runs[name, method] = [
                    train(tx, averages, seed, flags.steps, data, advance)
                    for seed in range(flags.seeds)
                ]
    print_table(runs)
    draw(runs, flags.output)
    print(f"Loss curves and learning rates: {flags.output}")
    name, base_rate = next(iter(BASE_RATES.items()))
    figure = integrations.plot_run(runs[name, "autotune(Adam)"][0].log, base_rate)
    of_run = flags.output.with_stem(f"{flags.output.stem}_run")
    figure.savefig(of_run, dpi=120)
    print(f"One run of autotune, from a base rate {name}: {of_run}")


if __name__ == "__main__":
    main()
