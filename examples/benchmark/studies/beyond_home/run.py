r"""autotune beyond its home: language models, fine-tuning, long runs, little noise.

    cd examples && python -m benchmark.studies.beyond_home.run --tasks gpt_0.8M --jobs 1
    cd examples && python -m benchmark.studies.beyond_home.report

A line of results.jsonl is a run: the loss (or percent correct) of the last parameters
and of their average. What is there is not run again. The rate of a schedule is tuned on
a grid of three a decade, over all seeds asked for: from three rates around a guess to
lower and higher ones, until the best is not the first or last. They follow one another
in one compiled training. With ``--tuned-by results.jsonl`` it is the one that these
rows chose, on other seeds::

    cd examples && python -m benchmark.studies.beyond_home.run --seeds 5 6 7 \
        --tuned-by benchmark/studies/beyond_home/results.jsonl --output held_out.jsonl
"""

import argparse
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from benchmark import plans, records, training, workers
from benchmark.progress import Progress
from benchmark.studies.beyond_home import methods
from benchmark.studies.beyond_home.tasks import TRAININGS
from benchmark.studies.beyond_home.tasks.training import Training
from data import prepared

RESULTS = Path(__file__).with_name("results.jsonl")
KEY = ("task", "method", "rate", "seed")
CHECKPOINTS = 5  # evaluations on the way; the last one is recorded
PLACES = range(-18, 4)  # of the grid: 1e-6 to 10
make_training = cache(lambda name, data_dir: TRAININGS[name](data_dir))

Row = dict[str, Any]


class Group(NamedTuple):
    """The runs of a method on a task."""

    task: str
    method: str
    seeds: tuple[int, ...]
    data_dir: Path
    output: Path
    rate: float | None = None  # if it is tuned already; or a base rate


def rate_at(place: int) -> float:
    """A rate of the grid, as it is written."""
    return plans.as_written(10 ** (place / 3))


def place_of(rate: float) -> int:
    """The nearest place of the grid."""
    return round(3 * np.log10(rate))


def value(row: Row, entry: methods.Entry) -> float:
    """The loss on validation; percent wrong for an accuracy, inf for a failed run."""
    found = row["validation"][entry.of]
    if row["failed"] or found is None:
        return np.inf
    return 100 - found if row["is_accuracy"] else found


def next_places(method: str, tried: dict[int, list[Row]], first: int) -> list[int]:
    """The places to try now; none once no entry is best at the first or last.

    Args:
      method: One of METHODS that is tuned.
      tried: The rows of each place.
      first: Where to begin.

    Returns:
      Places.
    """
    if not tried:
        return [first, first - 1, first + 1]
    wanted = set()
    for entry in methods.ENTRIES.values():
        if entry.method == method:
            means = {
                place: np.mean([value(row, entry) for row in rows])
                for place, rows in tried.items()
            }
            # Where all fail, lower.
            best = min(sorted(means), key=means.__getitem__)
            wanted |= {best - 1, best + 1} - set(tried)
    return sorted(wanted & set(PLACES))


def make_run(subject: Training, method: str) -> Callable[[Any, Any], training.Trace]:
    """A run from rate and seed, to be jitted; metrics have shape (2,), as evaluated."""

    def build(rate, steps, seed):
        return methods.build(subject, method, rate, steps)

    return run_of(subject, build, autotunes=not methods.is_tuned(method))


def run_of(
    subject: Training, build: training.Build, autotunes: bool
) -> Callable[[Any, Any], training.Trace]:
    """The same of what ``build`` makes of rate, steps and seed."""

    def evaluate(pair, split):
        return jnp.stack([subject.task.evaluate(params, split) for params in pair])

    return training.training_of(
        subject.task._replace(evaluate=evaluate),
        build,
        autotunes=autotunes,
        checkpoints=CHECKPOINTS,
    )


def as_row(trace: training.Trace, task: Any) -> Row:
    """What is recorded of a run, beside its key."""
    row = {
        "failed": None if trace.is_finite else "not finite",
        "steps": task.steps,
        "is_accuracy": task.is_accuracy,
        "initial": records.number(trace.initial[0]),
        "validation": records.numbers(trace.validation[-1], 5),
        "test": records.numbers(trace.test, 5),
    }
    if trace.found:
        row["found_rate"] = records.number(trace.learning_rate[-1], 3)
        row["rollbacks"] = int(trace.found["rollbacks"])
    return row


def runs(group: Group, rows: list[Row]) -> Iterator[Row]:
    """Makes and yields the rows that are missing, one run after another."""
    subject = make_training(group.task, group.data_dir)
    run = jax.jit(make_run(subject, group.method))
    done = {tuple(row[name] for name in KEY): row for row in rows}

    def at(rate: float) -> Iterator[Row]:
        for seed in group.seeds:
            key = (group.task, group.method, rate, seed)
            if key not in done:
                start = time.perf_counter()
                trace = jax.device_get(run(jnp.float32(rate), jnp.int32(seed)))
                seconds = round(time.perf_counter() - start, 1)
                names = dict(zip(KEY, key, strict=True))
                row = names | as_row(trace, subject.task) | {"seconds": seconds}
                done[key] = row
                yield row

    rate = group.rate
    if rate is None and not methods.is_tuned(group.method):
        rate = methods.BASE_RATE
    if rate is not None:
        yield from at(rate)
        return
    tried: dict[int, list[Row]] = {}
    while places := next_places(group.method, tried, place_of(subject.rate)):
        for place in places:
            yield from at(rate_at(place))
            keys = [(*group[:2], rate_at(place), seed) for seed in group.seeds]
            tried[place] = [done[key] for key in keys]


def tuned_rate(rows: list[Row], task: str, name: str) -> float | None:
    """The rate of the lowest mean loss of an entry; None where there are no rows."""
    entry = methods.ENTRIES[name]
    losses: dict[float, list[float]] = {}
    for row in rows:
        if (row["task"], row["method"]) == (task, entry.method):
            losses.setdefault(row["rate"], []).append(value(row, entry))
    return min(sorted(losses), key=lambda rate: np.mean(losses[rate]), default=None)


def groups_at_tuned_rates(rows: list[Row], base: list[Group]) -> list[Group]:
    """Those of ``methods.HELD_OUT`` that have a rate, or need none."""
    names = {methods.ENTRIES[name].method: name for name in methods.HELD_OUT}
    found = []
    for group in base:
        if group.method not in names:
            continue
        rate = tuned_rate(rows, group.task, names[group.method])
        if not methods.is_tuned(group.method):
            found.append(group)
        elif rate is not None:
            found.append(group._replace(rate=rate))
    return found


def run_group(group: Group) -> str:
    """Appends what is missing, each run as it ends; the name of the group."""
    rows = records.rows(group.output)
    is_first = True
    with records.open_to_append(group.output) as file:
        for row in runs(group, rows):
            if is_first:
                config = {"study": "beyond_home", "checkpoints": CHECKPOINTS}
                records.write(file, [records.header(config, 0.0)])
                is_first = False
            records.write(file, [row])
            shown = [row[name] for name in (*KEY, "validation", "seconds")]
            print(*shown, flush=True)
    return f"{group.method} on {group.task}"


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--tasks",
        nargs="+",
        default=tuple(TRAININGS),
        choices=TRAININGS,
        metavar="TASK",
    )
    parser.add_argument(
        "--methods", nargs="+", default=methods.METHODS, choices=methods.METHODS
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1])
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--data-dir", type=Path, default=prepared.default_dir())
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--tuned-by", type=Path, help="rows that chose the rates")
    of_autotune = f"of autotune and learned; {methods.BASE_RATE:g} by default"
    parser.add_argument("--base-rate", type=float, help=of_autotune)
    flags = parser.parse_args()
    if flags.tuned_by and not flags.tuned_by.exists():
        parser.error(f"--tuned-by {flags.tuned_by} is not a file of rows")
    groups = [
        Group(
            *(task, method, tuple(flags.seeds), flags.data_dir, flags.output),
            rate=None if methods.is_tuned(method) else flags.base_rate,
        )
        for task in flags.tasks
        for method in flags.methods
    ]
    if flags.tuned_by:
        groups = groups_at_tuned_rates(records.rows(flags.tuned_by), groups)
    with Progress() as progress:
        progress.expect([1.0] * len(groups))
        for name in workers.results(run_group, groups, flags.jobs):
            progress.tick(1.0, name)


if __name__ == "__main__":
    main()
