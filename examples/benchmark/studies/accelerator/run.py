"""The larger list, for an accelerator: the example scripts at full size.

    cd examples && python -m benchmark.studies.accelerator.run --workdir runs
    cd examples && python -m benchmark.report --results runs/accelerator.jsonl

One process a run, one after another; a run that was killed is resumed by its script,
one that ended is not repeated. A script that fails is a failed run, tried again next
time. Validation is once an epoch. The scripts do not evaluate before the first step:
the worst metric after any run's first epoch stands for that.
"""

import argparse
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmark import records
from methods import registry
from training import logs

EXAMPLES = Path(__file__).parents[3]


class Script(NamedTuple):
    """An example script as a task."""

    name: str
    flags: tuple[str, ...]
    metric: str
    is_accuracy: bool
    unit: str


SCRIPTS = {
    "mlp": Script("mlp_mnist", (), "accuracy", True, "% correct"),
    "resnet18": Script("resnet18_cifar", (), "accuracy", True, "% correct"),
    "resnet18_100": Script(
        "resnet18_cifar", ("--dataset", "cifar100"), "accuracy", True, "% correct"
    ),
    "vgg16": Script("vgg16_cifar", (), "accuracy", True, "% correct"),
    "lstm": Script("lstm_sentiment", (), "accuracy", True, "% correct"),
    "transformer": Script("transformer_sentiment", (), "accuracy", True, "% correct"),
    "electricity": Script("lstm_electricity", (), "absolute_error", False, "MW"),
}
METHODS = registry.NAMES
BASE_RATES = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1)


def has_ended(events: list[dict[str, Any]]) -> bool:
    """Whether a script's log is that of a whole run."""
    return bool(events) and events[-1]["event"] == "test"


def as_lines(
    task: str, method: str, rate: float, seed: int, events: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Header and row of a run that ended, or the row of a failed one, from its log."""
    script = SCRIPTS[task]
    names = {"task": task, "optimizer": "adam", "method": method}
    names |= {"base_rate": rate, "seed": seed}
    if not has_ended(events):
        return [{**names, "failed": "the script failed"}]
    scale = 100.0 if script.is_accuracy else 1.0

    def series(kind: str, name: str) -> np.ndarray:
        found = [e for e in events if e["event"] == kind and name in e]
        return np.array([float(e[name]) for e in found])  # "nan" is text there

    start, test = events[0], events[-1]
    validation = scale * series("validation", script.metric)
    epochs = len(validation)
    losses, rates, train = (
        np.array_split(series("train", name), epochs)
        for name in ("loss", "learning_rate", script.metric)
    )
    late = np.concatenate(losses[-max(epochs // 10, 1) :])
    is_finite = np.isfinite(late).all() and np.isfinite(float(test["loss"]))
    values = {
        "initial": validation[0],
        "validation": validation,
        "learning_rate": [part[-1] for part in rates],
        "late_loss_std": late.std(),
        "train": scale * train[-1].mean() if len(train[-1]) else np.nan,
        "test": scale * float(test[script.metric]),
    }
    config = {
        "task": task,
        "steps": test["step"],
        "steps_per_epoch": test["step"] // epochs,
        "is_accuracy": script.is_accuracy,
        "unit": script.unit,
        **start["config"],
    }
    header = {**records.header(config, test["seconds"])["header"], **start["versions"]}
    row = {**names, "failed": None if is_finite else "not finite"}
    plain = {
        name: [v if np.isfinite(v) else None for v in np.atleast_1d(value).tolist()]
        for name, value in values.items()
    }
    scalars = {n: v if np.ndim(values[n]) else v[0] for n, v in plain.items()}
    return [{"header": header}, row | scalars]


def main() -> None:
    """Runs what has not ended, then writes all runs in the form of run.py."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tasks", nargs="+", choices=SCRIPTS, default=list(SCRIPTS))
    parser.add_argument("--methods", nargs="+", default=METHODS)
    parser.add_argument("--base-rates", nargs="+", type=float, default=BASE_RATES)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--workdir", type=Path, required=True)
    args, others = parser.parse_known_args()  # the others are for the scripts
    lines = []
    for task in args.tasks:
        for method in args.methods:
            for rate in args.base_rates:
                for seed in range(args.seeds):
                    folder = args.workdir / f"{task}-{method}-{rate:g}-{seed}"
                    events = logs.read(folder / "metrics.jsonl")
                    if not has_ended(events):
                        script = SCRIPTS[task]
                        flags = {"method": method, "learning-rate": rate, "seed": seed}
                        flags["workdir"] = folder
                        command = [sys.executable, EXAMPLES / f"{script.name}.py"]
                        command += [*script.flags, *others]
                        command += [
                            f"--{name}={value}" for name, value in flags.items()
                        ]
                        subprocess.run(command, check=False)
                        events = logs.read(folder / "metrics.jsonl")
                    lines += as_lines(task, method, rate, seed, events)
    for task in args.tasks:
        rows = [line for line in lines if line.get("task") == task]
        rows = [row for row in rows if row.get("initial") is not None]
        find_worst = min if SCRIPTS[task].is_accuracy else max
        worst = find_worst((row["initial"] for row in rows), default=None)
        for row in rows:
            row["initial"] = worst
    output = args.workdir / "accelerator.jsonl"
    output.write_text("".join(records.as_json(line) + "\n" for line in lines))


if __name__ == "__main__":
    main()
