"""Runs the experiment into JSON lines; what is there already is not run again.

    cd examples && python -m experiment.run --jobs 2
    cd examples && python -m experiment.run --plan quick   # about ten minutes
    cd examples && python -m experiment.run --plan full --jobs 1   # an accelerator

A line is a run, which a process makes by the loop of the scripts. A run that ends with
a loss that is not finite is a result too; one that raises an exception stops the
command. Stopped, it goes on where it was, within a run too.

First come what the others need (pretraining, baselines), then the tuning, then all
entries of a seed on all tasks, seed by seed.
"""

import argparse
import importlib
import json
import os
import shutil
import time
from pathlib import Path
from typing import Any, NamedTuple

# What one run has compiled serves all rates and seeds of its method.
os.environ.setdefault(
    "JAX_COMPILATION_CACHE_DIR",
    str(Path(__file__).parents[2] / "runs" / "experiment" / "compiled"),
)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.3")

import jax
import numpy as np

from benchmark import records, workers
from benchmark.progress import Progress
from data import prepared
from data.dataset import Dataset
from experiment import plan as plans
from experiment.plan import Plan, Row, Run, Task
from training import checkpoints, logs

RESULTS = Path(__file__).with_name("results")
WORK = Path(__file__).parents[2] / "runs" / "experiment"  # of logs
POINTS = 60  # of a curve over the steps


class Job(NamedTuple):
    """A run, and where it is made."""

    run: Run
    task: Task
    folder: Path  # of the logs
    data_dir: Path
    is_smoke: bool


DATA: dict[tuple[Path, str], Dataset] = {}  # of each task, loaded once in a process


def workdir(job: Job) -> Path:
    """The folder of the log of a run."""
    run = job.run
    rate = "" if run.rate is None else f"-{run.rate:g}"
    return job.folder / f"{run.task}-{run.method}{rate}-{run.seed}"


def script_of(job: Job) -> Any:
    """The module that makes a run."""
    is_pretraining = job.run.method == plans.PRETRAINING
    return importlib.import_module(
        plans.PRETRAINING_SCRIPT if is_pretraining else job.task.script
    )


def config_of(job: Job) -> Any:
    """The configuration of a run, of the type that its script has."""
    run, task, script = job.run, job.task, script_of(job)
    chosen: Row = {}
    if run.method == plans.PRETRAINING:
        chosen |= task.pretraining or {}
    elif run.method != plans.BASELINE:
        chosen |= {"method": run.method, "learning_rate": run.rate}
        if task.pretraining:
            before = job._replace(run=plans.pretraining(run.task))
            chosen["pretrained"] = str(workdir(before))
    places = {"workdir": str(workdir(job)), "data_dir": str(job.data_dir)}
    smoke = script.SMOKE | {"validations": 1} if job.is_smoke else {}
    return script.Config(**(task.flags | chosen | smoke | places), seed=run.seed)


def make(job: Job) -> Row:
    """Makes a run; its row."""
    logs.console.quiet = True
    start = time.perf_counter()
    try:
        found = measure(job)
    except SystemExit as error:  # of the set-up
        raise SystemExit(f"{error} (in {job.run})") from error
    except BaseException as error:  # of the machine or the code, and no method's result
        error.add_note(f"in {job.run}")
        raise
    jax.clear_caches()  # of programs that no other run has a use for
    seconds = round(time.perf_counter() - start, 1)
    return job.run._asdict() | {"failed": None} | found | {"wall_seconds": seconds}


def measure(job: Job) -> Row:
    """Trains, or takes the baseline, and reads what came of it."""
    run, task, config, script = job.run, job.task, config_of(job), script_of(job)
    if (job.folder, run.task) not in DATA:
        DATA[job.folder, run.task] = script.load(config)
    data = DATA[job.folder, run.task]
    if run.method == plans.BASELINE:
        assert task.baseline is not None
        return {"test": records.number(task.scale * task.baseline(data))}
    script.train(config, data)
    row = as_row(task, logs.read(workdir(job) / "metrics.jsonl"))
    if run.method != plans.PRETRAINING:  # of which others read what it serves
        for name in ("checkpoints", checkpoints.SERVED):
            shutil.rmtree(workdir(job) / name)  # the log alone is of use now
    return row


def as_row(task: Task, events: list[dict[str, Any]]) -> Row:
    """What the log of a run says.

    Args:
      task: Of the run.
      events: Of ``metrics.jsonl``.

    Returns:
      Curves and numbers.

    Raises:
      ValueError: If the log is not that of one whole run.
    """
    if not events or events[-1]["event"] != "test":
        raise ValueError("the log does not end with the test of a whole run")

    def series(event: str, name: str, scale: float = 1.0) -> np.ndarray:
        found = [scale * float(e[name]) for e in events if e["event"] == event]
        return np.array(found)  # "nan" is text there

    def means(values: np.ndarray, ends: np.ndarray) -> list[float]:
        return [float(part.mean()) for part in np.split(values, ends[:-1])]

    start, test, metric, scale = events[0], events[-1], task.metric, task.scale
    losses, rates = series("train", "loss"), series("train", "learning_rate")
    late = losses[-max(len(losses) // 10, 1) :]
    fit, tested = series("fit", "loss")[0], float(test["loss"])
    last = series("validation", "loss")[-1]
    is_finite = bool(np.isfinite([*late, last, fit, tested]).all())
    validated = series("validation", "step")
    if (np.diff(validated) <= 0).any():
        raise ValueError(
            "the log has a validation twice, as where two processes make the same run"
        )
    # How many training events came before each validation, and of each point.
    steps = series("train", "step")
    ends = np.searchsorted(steps, validated, "right")
    points = np.linspace(0, len(steps), min(POINTS, len(steps)) + 1).astype(int)[1:]
    row = {
        "steps": test["step"],
        "steps_per_epoch": test["step"] // start["config"]["epochs"],
        "parameters": start["parameters"],
        "validation_loss": series("validation", "loss"),
        "validation": series("validation", metric, scale),
        "train_loss": means(losses, ends),
        "train": means(series("train", metric, scale), ends),
        # Finer, for the pictures.
        "loss_curve": means(losses, points),
        "rate_curve": rates[points - 1],
        "late_loss_std": late.std(),
        "fit_loss": fit,
        "fit": series("fit", metric, scale)[0],
        "test_loss": tested,
        "test": scale * float(test[metric]),
        "seconds": seconds_of(events),
    }
    return {"failed": None if is_finite else "not finite"} | {
        name: records.numbers(value, 5) for name, value in row.items()
    }


def seconds_of(events: list[dict[str, Any]]) -> float:
    """Of training and evaluation, over all processes that a run took."""
    total = last = 0.0
    for event in events:
        if event["event"] == "resume":
            total += last
        last = event["seconds"]
    return total + last


def work_folder(output: Path) -> Path:
    """Of the logs whose rows go to ``output``; beside it where a user chose the place.

    There another file may have the name of one in ``RESULTS``.
    """
    output = output.absolute()
    if output.parent == RESULTS.absolute():
        return WORK / output.stem
    return output.with_name(f"{output.stem}_runs")


def check_same_tasks(path: Path, config: Row) -> None:
    """Refuses rows of other flags than those of the plan."""
    for line in records.read(path):
        header = line["header"]["config"] if "header" in line else {}
        found = header.get("tasks", {})
        is_other = header.get("smoke", False) != config["smoke"]
        both = config["tasks"].keys() & found.keys()
        different = sorted(
            t for t in both if is_other or found[t] != config["tasks"][t]
        )
        if different:
            raise SystemExit(
                f"{path} holds runs of {', '.join(different)} with other flags; move "
                f"it and {work_folder(path)} away, or write to a file of another name "
                "with --output"
            )


def outcome(row: Row) -> str:
    """Of a run, in words."""
    rate = "" if row["rate"] is None else f" at {row['rate']:g}"
    result = row["failed"] or f"test {row['test']:.4g}"
    return f"{row['method']}{rate} on {row['task']}, seed {row['seed']}: {result}"


def execute(
    plan: Plan, output: Path, data_dir: Path, processes: int | None, is_smoke: bool
) -> None:
    """Runs what ``output`` lacks of a plan, and appends it."""
    print(plans.TEST, flush=True)
    flags = {n: [t.script, t.flags, t.pretraining] for n, t in plan.tasks.items()}
    config = {"study": "experiment", "smoke": is_smoke, "tasks": flags}
    config = json.loads(records.as_json(config))
    check_same_tasks(output, config)
    rows = records.rows(output)
    if not any(plans.missing(plan, rows)):
        print(f"nothing to run: {output} has all of it")
        return
    shared = (work_folder(output), data_dir, is_smoke)
    with records.open_to_append(output) as file, Progress() as progress:
        records.write(file, [records.header(config, 0.0)])
        for i in range(len(plans.stages(plan, rows))):
            left = plans.missing(plan, rows)[i:]
            runs = [run for stage in left for run in stage]
            progress.expect([plan.tasks[run.task].seconds for run in runs])
            jobs = [Job(run, plan.tasks[run.task], *shared) for run in left[0]]
            for row in workers.results(make, jobs, processes):
                rows.append(row)
                records.write(file, [row])
                progress.tick(plan.tasks[row["task"]].seconds, outcome(row))


def main(args: list[str] | None = None) -> None:
    """Reads the command line and runs the plan that it names."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--plan", choices=plans.PLANS, default="standard")
    parser.add_argument(
        "--tasks", nargs="+", metavar="TASK", help="fewer of the plan's"
    )
    parser.add_argument("--methods", nargs="+", metavar="ENTRY", help="fewer entries")
    parser.add_argument("--seeds", nargs="+", type=int, help="0, 1 and 2 by default")
    parser.add_argument(
        "--jobs", type=int, help="processes; one a core, or one on an accelerator"
    )
    parser.add_argument("--data-dir", type=Path, default=prepared.default_dir())
    parser.add_argument("--output", type=Path, help="default: results/PLAN.jsonl")
    parser.add_argument(
        "--smoke", action="store_true", help="the same code on tiny data"
    )
    chosen = parser.parse_args(args)
    plan = plans.PLANS[chosen.plan]
    for name, field in (("tasks", "tasks"), ("methods", "entries")):
        there, wanted = getattr(plan, field), getattr(chosen, name)
        unknown = sorted(set(wanted or ()) - set(there))
        if unknown:
            parser.error(
                f"--{name}: the plan {chosen.plan} has no {', '.join(unknown)}, but "
                f"{', '.join(there)}"
            )
        if wanted:
            plan = plan._replace(**{field: {n: there[n] for n in wanted}})
    if chosen.seeds:
        plan = plan._replace(seeds=tuple(chosen.seeds))
    if chosen.jobs is not None and chosen.jobs < 1:
        parser.error(f"--jobs must be at least 1, not {chosen.jobs}")
    name = f"{chosen.plan}_smoke" if chosen.smoke else chosen.plan
    output = chosen.output or RESULTS / f"{name}.jsonl"
    execute(plan, output, chosen.data_dir.absolute(), chosen.jobs, chosen.smoke)


if __name__ == "__main__":
    main()
