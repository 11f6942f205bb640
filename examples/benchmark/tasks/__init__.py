"""The tasks of the benchmark, one a file; each trains in seconds on one CPU core."""

from collections.abc import Callable
from pathlib import Path

from benchmark.tasks.cnn import cnn
from benchmark.tasks.demand import demand
from benchmark.tasks.digits import digits
from benchmark.tasks.lstm import lstm
from benchmark.tasks.task import SPLITS, Task
from benchmark.tasks.transformer import transformer

TASKS: dict[str, Callable[[Path], Task]] = {
    "digits": lambda data_dir: digits(),
    "noisy": lambda data_dir: digits(batch=8, label_noise=0.2),
    "short": lambda data_dir: digits(steps=480),
    "cnn": cnn,
    "lstm": lambda data_dir: lstm(),
    "transformer": lambda data_dir: transformer(),
    "demand": lambda data_dir: demand(),
}

# Of these tasks and those of studies/beyond_home: what each table of them says.
DEVELOPMENT = "Development tasks: they helped to choose `autotune`'s constants."

# Measured in percent correct; the others are losses.
ACCURACY = ("digits", "noisy", "short", "cnn")

__all__ = ["ACCURACY", "DEVELOPMENT", "SPLITS", "TASKS", "Task"]
