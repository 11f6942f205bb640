"""What is run, in which order, and how a rate is chosen."""

import pytest

from experiment import plan as plans
from experiment.plan import Entry, Plan, Run, Task

TASK = Task("mlp_mnist", "accuracy", {}, 1.0, "")
ERROR = TASK._replace(metric="absolute_error")
RATES = (1e-3, 1e-2)


def row(run, last=0.0, failed=None, loss=0.0):
    curves = {"validation": [9.0, last], "validation_loss": [9.0, loss]}
    return run._asdict() | curves | {"failed": failed}


def plan(tasks, *entries):
    known = {f"{e.method} {e.rate}": e for e in entries}
    return Plan(tasks, known, seeds=(0, 1), rates=RATES)


def test_the_rate_with_the_best_last_validation_is_chosen():
    made = plan({"accuracy": TASK, "error": ERROR}, Entry("cosine", None))
    rows = [
        row(Run(task, "cosine", rate, 0), last)
        for task in made.tasks
        for rate, last in zip(RATES, (1.0, 2.0), strict=True)
    ]
    # Of another seed, method or task: not asked.
    rows += [row(Run("accuracy", "cosine", 0.1, 1), 9), row(Run("x", "y", 1.0, 0), 9)]
    assert plans.chosen_rate(made, rows, "accuracy", "cosine") == 1e-2
    assert plans.chosen_rate(made, rows, "error", "cosine") == 1e-3
    assert plans.chosen_rate(made, rows[1:], "accuracy", "cosine") is None


def test_of_equal_metrics_the_lower_loss_decides():
    made = plan({"t": TASK}, Entry("cosine", None))
    runs = [Run("t", "cosine", rate, 0) for rate in RATES]
    for losses, rate in (((0.2, 0.1), 1e-2), ((0.1, 0.2), 1e-3), ((0.1, 0.1), 1e-3)):
        rows = [row(r, 1.0, loss=x) for r, x in zip(runs, losses, strict=True)]
        assert plans.chosen_rate(made, rows, "t", "cosine") == rate


def test_a_failed_run_is_worst_and_the_lowest_rate_stands_where_all_failed():
    made = plan({"t": TASK}, Entry("cosine", None))
    runs = [Run("t", "cosine", rate, 0) for rate in RATES]
    rows = [row(runs[0], 1.0), row(runs[1], 2.0, failed="not finite")]
    assert plans.chosen_rate(made, rows, "t", "cosine") == 1e-3
    del rows[1]["validation"]  # as of a run that raised
    assert plans.chosen_rate(made, rows, "t", "cosine") == 1e-3
    rows[0]["failed"] = "ValueError: no"
    assert plans.chosen_rate(made, rows, "t", "cosine") == 1e-3


def test_runs_of_a_default_rate_and_of_the_tuning_are_made_once():
    made = plan({"t": TASK}, Entry("cosine", 1e-2), Entry("cosine", None))
    first, tuning, *seeds = plans.missing(made, [])
    assert first == [] and tuning == [Run("t", "cosine", rate, 0) for rate in RATES]
    # At seed 0 there is only the rate that is still unknown.
    assert seeds[0] == [Run("t", "cosine", None, 0)]
    rows = [row(run, run.rate) for run in tuning]  # 1e-2 is best
    assert plans.missing(made, rows)[2:] == [[], [Run("t", "cosine", 1e-2, 1)]]
    rows = [row(run, -run.rate) for run in tuning]
    assert plans.missing(made, rows)[2:] == [
        [],
        [Run("t", "cosine", 1e-2, 1), Run("t", "cosine", 1e-3, 1)],
    ]


def test_what_others_need_comes_first():
    pretrained = TASK._replace(pretraining={"epochs": 1}, baseline=lambda data: 0.0)
    made = plan({"a": TASK, "b": pretrained}, Entry("trend", 1e-2))
    first, tuning, *seeds = plans.missing(made, [])
    assert first == [Run("b", "pretraining", None, 0), Run("b", "baseline", None, 0)]
    assert tuning == []
    assert seeds[1] == [Run("a", "trend", 1e-2, 1), Run("b", "trend", 1e-2, 1)]


@pytest.mark.parametrize("name", plans.PLANS)
def test_every_plan_has_configurations_and_methods(name):
    import importlib

    from methods import registry

    made = plans.PLANS[name]
    for task in made.tasks.values():
        script = importlib.import_module(task.script)
        script.Config(**task.flags)
        if task.pretraining:
            words = importlib.import_module(plans.PRETRAINING_SCRIPT)
            words.Config(**(task.flags | task.pretraining))
    for entry in made.entries.values():
        assert entry.method in registry.OFFERED
    assert "cosine_tuned" in made.entries  # with which all are compared
