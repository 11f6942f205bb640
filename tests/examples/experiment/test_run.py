"""The runner makes what a plan lacks, and reads it from the logs of the scripts."""

import json
import math

import pytest

from benchmark import records
from experiment import plan as plans
from experiment import report
from experiment import run as runner

TASK = plans.Task("mlp_mnist", "accuracy", {}, 1.0, "")


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(runner, "WORK", tmp_path / "work")
    monkeypatch.setattr(runner, "DATA", {})
    # Rows are shown as lines, which the tests read.
    yield
    runner.logs.console.quiet = False


def log():
    """Two epochs of four steps, with two validations each."""
    events = [{"event": "start", "step": 0, "seconds": 0.0, "parameters": 7}]
    events[0]["config"] = {"epochs": 2}
    for step in range(1, 9):
        values = {"loss": 1.0 / step, "accuracy": step / 10, "learning_rate": step}
        events.append({"event": "train", "step": step, "seconds": step, **values})
        if step % 2 == 0:
            values = {"loss": 2.0 / step, "accuracy": step / 20}
            events.append(
                {"event": "validation", "step": step, "seconds": step, **values}
            )
    last = {"step": 8, "loss": 0.5, "accuracy": 0.4}
    events.append({"event": "fit", "seconds": 8.5, **last})
    events.append({"event": "test", "seconds": 9.0, **last, "accuracy": 0.3})
    return events


def test_a_log_becomes_a_row():
    row = runner.as_row(TASK, log())
    assert row["failed"] is None and row["parameters"] == 7
    assert (row["steps"], row["steps_per_epoch"]) == (8, 4)
    assert row["validation"] == [10, 20, 30, 40]
    assert row["validation_loss"] == [1, 0.5, 0.33333, 0.25]
    assert row["train"] == [15, 35, 55, 75]  # means since the validation before
    assert row["train_loss"][0] == 0.75
    assert row["rate_curve"] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert row["loss_curve"][1] == 0.5
    assert row["late_loss_std"] == 0  # a tenth of eight steps is one
    assert (row["fit"], row["test"], row["seconds"]) == (40, 30, 9)


def test_a_log_of_two_processes_is_no_row():
    events = log()
    with pytest.raises(ValueError, match="a validation twice"):
        runner.as_row(TASK, [*events[:-2], *events[1:]])


def test_a_curve_has_few_points_and_loses_no_step():
    events = log()
    more = [
        {"event": "train", "step": 8 + i, "loss": float(i), "accuracy": 0.0}
        | {"learning_rate": 1.0, "seconds": 8.0}
        for i in range(1, 1000)
    ]
    events[-2:-2] = [*more, {**events[-3], "step": 1007}]
    row = runner.as_row(TASK, events)
    assert len(row["loss_curve"]) == len(row["rate_curve"]) == runner.POINTS
    assert row["late_loss_std"] == pytest.approx(100 / math.sqrt(12), rel=1e-2)


@pytest.mark.parametrize("event, name", [("train", "loss"), ("test", "loss")])
def test_a_run_that_does_not_end_finite_has_failed(event, name):
    events = log()
    last = [e for e in events if e["event"] == event][-1]
    last[name] = "nan"
    row = runner.as_row(TASK, events)
    assert row["failed"] == "not finite" and row["validation"] == [10, 20, 30, 40]
    json.loads(records.as_json(row))  # nan is no JSON


def test_a_last_evaluation_that_is_not_finite_is_a_failure():
    events = log()
    [e for e in events if e["event"] == "validation"][-1]["loss"] = "nan"
    assert runner.as_row(TASK, events)["failed"] == "not finite"


@pytest.mark.parametrize("events", [[], log()[:-1]])
def test_a_log_without_an_end_is_an_error(events):
    with pytest.raises(ValueError, match="does not end with the test"):
        runner.as_row(TASK, events)


def test_the_seconds_of_a_resumed_run_are_those_of_all_its_processes():
    events = log()
    resumed = {"event": "resume", "step": 4, "seconds": 0.1}
    at = next(i for i, e in enumerate(events) if e.get("step") == 5)
    assert runner.seconds_of([*events[:at], resumed, *events[at:]]) == 4 + 9


def test_each_file_of_rows_has_its_own_folder_of_logs(tmp_path):
    results, work = runner.RESULTS, runner.WORK
    assert runner.work_folder(results / "standard.jsonl") == work / "standard"
    elsewhere = [tmp_path / name / "standard.jsonl" for name in ("a", "b")]
    folders = {runner.work_folder(path) for path in elsewhere}
    assert folders == {path.with_name("standard_runs") for path in elsewhere}


FLAGS = ("--plan", "full", "--smoke", "--jobs", "1", "--seeds", "0", "1")


@pytest.mark.slow
def test_the_full_plan_runs_on_tiny_data(tmp_path, capsys):
    output = tmp_path / "rows.jsonl"
    wanted = ("--tasks", "mlp", "--methods", "cosine", "trend", "--output", str(output))
    runner.main([*FLAGS, *wanted])
    shown = capsys.readouterr().out
    assert shown.startswith("Test tasks. Results on those marked §")
    assert "4 of 4, 0 min left: trend at 0.01 on mlp, seed 1: test" in shown
    rows = records.rows(output)
    assert [(row["method"], row["seed"]) for row in rows] == [
        ("cosine", 0),
        ("trend", 0),
        ("cosine", 1),
        ("trend", 1),
    ]
    for row in rows:
        assert row["failed"] is None and 0 <= row["test"] <= 100
        assert len(row["validation"]) == len(row["train"]) == 2  # epochs
    header = records.read(output)[0]["header"]
    assert header["config"]["tasks"] == {"mlp": ["mlp_mnist", {}, None]}
    # What is there is not run again, and what is not is.
    before = output.read_text()
    runner.main([*FLAGS, *wanted])
    assert "nothing to run" in capsys.readouterr().out
    lines = before.splitlines(keepends=True)
    output.write_text("".join(lines[:-1]))
    runner.main([*FLAGS, *wanted])
    last = records.rows(output)[-1]
    assert (last["method"], last["seed"]) == ("trend", 1)
    timed = ("seconds", "wall_seconds")
    assert {k: v for k, v in last.items() if k not in timed} == {
        k: v for k, v in rows[-1].items() if k not in timed
    }


@pytest.mark.slow
@pytest.mark.parametrize(
    "task", ["electricity", "lstm", "transformer", "resnet18", "vgg16"]
)
def test_each_task_of_the_full_plan_is_run_and_reported(task, tmp_path):
    """Of the two others, tests above and below do so."""
    output = tmp_path / "rows.jsonl"
    flags = ("--plan", "full", "--smoke", "--jobs", "1", "--seeds", "0")
    flags += ("--tasks", task, "--methods", "autotune_anytime")
    runner.main([*flags, "--output", str(output)])
    (row,) = (row for row in records.rows(output) if row["method"] != "baseline")
    assert row["failed"] is None and len(row["validation"]) > 0
    report.main(["--plan", "full", "--results", str(output)])
    page = output.with_suffix(".md").read_text()
    assert "**1 of 54 results are there.**" in page


def test_a_run_that_raises_is_no_result_and_is_named(tmp_path, monkeypatch):
    output = tmp_path / "rows.jsonl"

    def fail(config, data):
        raise MemoryError

    monkeypatch.setattr("mlp_mnist.train", fail)
    flags = ("--tasks", "mlp", "--methods", "cosine", "--output", str(output))
    with pytest.raises(MemoryError) as caught:
        runner.main([*FLAGS, *flags])
    assert "method='cosine'" in caught.value.__notes__[0]
    assert not records.rows(output)


def test_a_set_up_that_is_wrong_is_no_result(tmp_path):
    output = tmp_path / "rows.jsonl"
    flags = (
        "--plan",
        "full",
        "--seeds",
        "0",
        "--jobs",
        "1",
        "--data-dir",
        str(tmp_path),
    )
    with pytest.raises(SystemExit, match="cifar100"):
        runner.main([*flags, "--tasks", "resnet18", "--output", str(output)])
    assert not records.rows(output)


def test_rows_of_a_smoke_run_are_not_taken_for_real_ones(tmp_path):
    output = tmp_path / "rows.jsonl"
    task = runner.plans.PLANS["full"].tasks["mlp"]
    tasks = {"mlp": [task.script, task.flags, task.pretraining]}
    config = {"smoke": True, "tasks": tasks}
    output.write_text(records.as_json({"header": {"config": config}}) + "\n")
    with pytest.raises(SystemExit, match="runs of mlp with other flags"):
        runner.main(["--plan", "full", "--tasks", "mlp", "--output", str(output)])


def test_rows_of_other_flags_are_refused(tmp_path):
    output = tmp_path / "rows.jsonl"
    config = {"tasks": {"mlp": ["mlp_mnist", {"epochs": 7}, None], "other": []}}
    output.write_text(records.as_json({"header": {"config": config}}) + "\n")
    before = output.read_text()
    with pytest.raises(SystemExit, match="runs of mlp with other flags; move it"):
        runner.main([*FLAGS, "--tasks", "mlp", "--output", str(output)])
    assert output.read_text() == before


@pytest.mark.parametrize(
    "flags, message",
    [
        (("--tasks", "mpl"), "the plan quick has no mpl, but mlp, electricity"),
        (("--methods", "cosin"), "the plan quick has no cosin, but cosine, cosine_tun"),
        (("--plan", "quik"), "invalid choice: 'quik'"),
        (("--jobs", "0"), "--jobs must be at least 1, not 0"),
    ],
)
def test_bad_names_are_errors(flags, message, capsys):
    with pytest.raises(SystemExit):
        runner.main(["--plan", "quick", *flags])
    assert message in capsys.readouterr().err


@pytest.mark.slow
def test_two_processes_tune_and_fine_tune(tmp_path):
    output = tmp_path / "rows.jsonl"
    flags = ("--tasks", "mlp", "transformer_finetuned", "--methods", "cosine_tuned")
    runner.main(
        ["--plan", "full", "--smoke", "--jobs", "2", *flags]
        + ["--seeds", "1", "--output", str(output)]
    )
    rows = records.rows(output)
    assert not any(row["failed"] for row in rows)
    assert sum(row["method"] == "pretraining" for row in rows) == 1
    for task in ("mlp", "transformer_finetuned"):
        made = [row for row in rows if (row["task"], row["method"]) == (task, "cosine")]
        tried = {row["rate"]: row["validation"][-1] for row in made if not row["seed"]}
        assert set(tried) == set(plans.FULL_RATES)
        (last,) = (row for row in made if row["seed"] == 1)
        assert tried[last["rate"]] == max(tried.values())
