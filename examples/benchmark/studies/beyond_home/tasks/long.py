"""The comparison's own tasks, run on for ten and for sixty times as many steps."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import optax

from benchmark.studies.beyond_home.tasks.training import Training
from benchmark.tasks.demand import demand
from benchmark.tasks.digits import digits
from benchmark.tasks.lstm import lstm
from benchmark.tasks.task import Task
from benchmark.tasks.transformer import transformer

noisy = partial(digits, batch=8, label_noise=0.2)


def long(make: Callable[..., Task], steps: int, data_dir: Path) -> Training:
    """A task of the comparison, with Adam; none of these reads prepared data."""
    del data_dir
    return Training(make(steps=steps), optax.adam, 3e-3)


LONG = {
    "noisy_10k": partial(long, noisy, 10_000),
    "lstm_10k": partial(long, lstm, 10_000),
    "transformer_10k": partial(long, transformer, 10_000),
    "demand_10k": partial(long, demand, 10_000),
    "noisy_50k": partial(long, noisy, 50_000),
    "lstm_50k": partial(long, lstm, 50_000),
}
