"""The report says what made-up rows say, and how many rows there are."""

import math
import re

import numpy as np
import pytest

from benchmark import records
from experiment import measures, picture, report, tables
from experiment import plan as plans
from experiment.plan import Entry, Plan, Run, Task
from tests.examples.experiment.conftest import all_rows, made_up

ACCURACY = Task("mlp_mnist", "accuracy", {}, 1.0, "")
ERROR = ACCURACY._replace(metric="absolute_error")
PLAN = Plan(
    {"mlp": ACCURACY, "electricity": ERROR},
    {"cosine_tuned": Entry("cosine", None), "trend": Entry("trend", 1e-2)},
    rates=(1e-3, 1e-2),
)


def row(task, method, rate, seed, test, validation=(50, 80), failed=None):
    run = Run(task, method, rate, seed)
    found = {"steps": 40, "steps_per_epoch": 10, "fit": 90.0, "late_loss_std": 0.5}
    found |= {"test": test, "validation": list(validation), "failed": failed}
    found["validation_loss"] = [1.0 for _ in validation]
    return run._asdict() | found | {"commit": "abc"}


def rows_of(task, gains=(1.0, 2.0, 3.0), ends=(80, 82, 84)):
    """The tuned cosine has 1e-2; trend's test metric is above it by the gains."""
    made = [row(task, "cosine", 1e-3, 0, 10.0, (85, 85) if task[0] == "e" else (0, 0))]
    for seed, (gain, end) in enumerate(zip(gains, ends, strict=True)):
        made.append(row(task, "cosine", 1e-2, seed, 70.0 + seed, (60, end)))
        made.append(row(task, "trend", 1e-2, seed, 70.0 + seed + gain, (81, 83)))
    return made


def line(plan, rows, task, entry):
    found = measures.outcomes(plan, rows)
    table = tables.task_table(plan, task, found[task])
    cells = next(row for row in table.rows if row[0] == f"`{entry}`")
    return dict(zip(table.header, cells, strict=True)), table.caption


def test_a_line_has_the_four_measures():
    cells, caption = line(PLAN, rows_of("mlp"), "mlp", "trend")
    # 82 less 2 / sqrt(3), which the first of two validations in four epochs misses.
    assert caption == "Threshold on validation: 80.85 % correct."
    assert (
        cells["learning rate"] == "0.01" and cells["test, % correct"] == "73.00 ± 1.2"
    )
    assert cells["gain (95% interval)"] == "+2.00 ± 2.48"  # 4.303 / sqrt(3)
    assert cells["epochs to threshold"] == "2"
    assert (cells["gap"], cells["variability"]) == ("7", "0.5")
    assert (cells["seeds"], cells["failed"]) == ("3 of 3", "0")
    cosine, _ = line(PLAN, rows_of("mlp"), "mlp", "cosine_tuned")
    assert cosine["learning rate"] == "0.01, tuned"
    assert cosine["gain (95% interval)"] == "+0.00 ± 0.00"
    assert cosine["epochs to threshold"] == "4 (1 missed)"


def test_less_of_an_error_is_better():
    rows = rows_of("electricity", ends=(80, 82, 84))
    cells, caption = line(PLAN, rows, "electricity", "trend")
    assert caption == "Threshold on validation: 83.15 MW."
    assert cells["gain (95% interval)"] == "-2.00 ± 2.48"
    assert cells["gap"] == "-7" and cells["epochs to threshold"] == "2"


def test_a_threshold_that_most_never_reach_is_infinitely_far():
    rows = rows_of("mlp")
    for made in rows:
        if made["method"] == "trend":
            made["validation"] = [None, 83 if made["seed"] == 1 else 80]  # null: nan
    cells, _ = line(PLAN, rows, "mlp", "trend")
    assert cells["epochs to threshold"] == "∞ (2 missed)"


def test_an_entry_with_a_failed_run_has_no_mean():
    rows = rows_of("mlp")
    broken = Run("mlp", "trend", 1e-2, 1)._asdict() | {"failed": "ValueError: no"}
    rows = [broken if plans.key(r) == plans.key(broken) else r for r in rows]
    cells, _ = line(PLAN, rows, "mlp", "trend")
    assert set(list(cells.values())[2:7]) == {"failed"}
    assert (cells["seeds"], cells["failed"]) == ("3 of 3", "1")
    # Nor is one compared with a cosine that failed.
    rows = rows_of("mlp")
    for made in rows:
        made["failed"] = "not finite" if made["method"] == "cosine" else None
    rows += [row("mlp", "cosine", 1e-3, seed, 1.0, failed="no") for seed in (1, 2)]
    cells, caption = line(PLAN, rows, "mlp", "trend")
    assert cells["test, % correct"] == "73.00 ± 1.2" and caption.endswith(": –.")
    assert cells["gain (95% interval)"] == cells["epochs to threshold"] == "–"


def test_what_is_missing_is_a_dash_and_is_counted():
    rows = [r for r in rows_of("mlp") if (r["method"], r["seed"]) != ("trend", 2)]
    found = measures.outcomes(PLAN, rows)
    assert tables.progress(PLAN, found) == (
        "**5 of 12 results are there** (2 tasks, 2 entries, 3 seeds); in part: MLP, "
        "digits; not at all: LSTM, electricity."
    )
    cells, _ = line(PLAN, rows, "mlp", "trend")
    assert cells["seeds"] == "2 of 3" and cells["test, % correct"].startswith("72.00")
    table = tables.overall(PLAN, rows, found)
    assert table.header == ["entry", "MLP, digits"]  # the other has nothing
    assert table.rows[1] == ["`trend`", "–"]  # a part of the seeds is no result
    assert "electricity" not in report.task_sections(PLAN, found, "x").split("\n", 1)[1]
    assert "**5 of 6 results are there.**" in report.task_sections(PLAN, found, "x")
    # While a rate is tuned there is no run of the entry.
    cells, _ = line(PLAN, rows[:1], "mlp", "cosine_tuned")
    assert cells["learning rate"] == "–" and cells["seeds"] == "0 of 3"


def test_all_measures_are_counted_over_the_tasks_that_are_complete():
    rows = rows_of("mlp") + rows_of("electricity", (1.0, 2.0, 3.0))
    for made in rows:  # by seed, so that one measure is beyond doubt
        if made["method"] == "trend":
            made["late_loss_std"] = 0.1 + 0.01 * made["seed"]
    table = tables.all_measures(PLAN, measures.outcomes(PLAN, rows))
    lines = {name: cells for name, *cells in table.rows}
    # Two points more, of an accuracy and of an error; 7 less of a gap, and 7 more.
    assert lines["`trend`"] == ["1 : 1", "1 : 0", "1 : 1", "2 : 0 (2 : 0)"]
    assert lines["`cosine_tuned`"] == 4 * ["0 : 0"]
    table = tables.all_measures(PLAN, measures.outcomes(PLAN, rows_of("mlp")))
    assert "On how many of 1 tasks" in table.caption
    failed = [made | {"failed": "no"} for made in rows if made["method"] == "trend"]
    rest = [made for made in rows if made["method"] != "trend"]
    table = tables.all_measures(PLAN, measures.outcomes(PLAN, rest + failed))
    assert table.rows[1] == ["`trend`", *4 * ["0 : 0"]]


def test_differences_of_two_entries_are_taken_in_pairs(monkeypatch):
    monkeypatch.setattr(tables, "PAIRS", (("trend", "cosine_tuned"), ("learned", "x")))
    rows = rows_of("mlp") + rows_of("electricity", (1.0, 2.0, 3.0))
    table = tables.differences(PLAN, measures.outcomes(PLAN, rows))
    expected = ["+2.00 ± 2.48", "-2.00 ± 2.48"]  # of an accuracy, and of an error
    assert table.rows == [["`trend` to `cosine_tuned`", *expected]]
    rows[2]["failed"] = "no"  # of trend
    table = tables.differences(PLAN, measures.outcomes(PLAN, rows))
    assert table.rows[0][1:] == ["–", expected[1]]


def test_the_best_static_schedules_are_marked(standard):
    plan, rows = standard
    table = tables.overall(plan, rows, measures.outcomes(plan, rows))
    cells = {row[0]: row[1:] for row in table.rows}
    assert len(table.header) == 8 and len(cells) == len(plan.entries) + 1
    # Made up: the nearest to 0.00316, and the first named, is best.
    assert all(cell.endswith(" †") for cell in cells["`fixed`"])
    assert all(cell.endswith(" ‡") for cell in cells["`fixed_tuned`"])
    assert sum("†" in cell for row in cells.values() for cell in row) == 7
    assert cells["no network"] == ["", *4 * ["12.50"], "", ""]
    # Not before all of them are there.
    fewer = [r for r in rows if (r["method"], r["seed"]) != ("step_fifths", 2)]
    table = tables.overall(plan, fewer, measures.outcomes(plan, fewer))
    assert not any(mark in cell for row in table.rows for cell in row for mark in "†‡")


def test_readme_has_the_tasks_that_are_complete(standard):
    plan, rows = standard
    text = tables.headline(plan, measures.outcomes(plan, rows))
    assert len(text.splitlines()) == 14 and "not complete" not in text
    names = [part.split(" | ")[0].strip("| ") for part in text.splitlines()[4:]]
    assert names == [label for label, _, _ in tables.HEADLINE]
    assert text.count("(fixed)") == 7 and text.count("(plateau)") == 7
    fewer = [r for r in rows if r["task"] == "mlp" or r["seed"] == 0]
    text = tables.headline(plan, measures.outcomes(plan, fewer))
    assert "1 of 7 tasks are complete" in text
    assert "| method | MLP, digits § |" in text
    text = tables.headline(plan, measures.outcomes(plan, []))
    assert "is being run (`make experiment`)" in text and len(text.splitlines()) == 1


def test_the_headline_names_every_entry_once():
    named = [name for _, names, _ in tables.HEADLINE for name in names]
    assert len(named) == len(set(named)) and set(named) < set(plans.ENTRIES)
    drawn = [name for styles in picture.GROUPS.values() for name in styles]
    assert sorted([*drawn, *picture.EVERYWHERE]) == sorted(plans.ENTRIES)
    assert set(tables.TITLES) == set(plans.TASKS)


def test_pictures_are_drawn_from_rows(tmp_path, standard):
    plan, rows = standard
    some = [r for r in rows if r["task"] == "electricity"]
    found = measures.outcomes(plan, some)
    (path,) = picture.draw_all(plan, found, tmp_path / "experiment")
    assert path == tmp_path / "experiment_electricity.png"
    assert path.read_bytes().startswith(b"\x89PNG")
    panels = picture.figure_of(plan, "electricity", found["electricity"]).axes
    assert len(panels) == 3 * len(picture.GROUPS)
    legends = [[t.get_text() for t in p.get_legend().get_texts()] for p in panels[-4:]]
    assert all({"cosine_tuned", "autotune_anytime"} <= set(x) for x in legends)
    lines = {x.get_label(): x for x in panels[1].lines}  # validation, rules
    assert len(panels[1].lines) == len(plan.entries)
    trend = [r for r in some if (r["method"], r["rate"]) == ("trend", 1e-2)]
    ends = sorted(r["validation"][-1] for r in trend)
    assert lines["trend"].get_ydata()[-1] == ends[1]  # the median
    assert lines["trend"].get_xdata()[-1] == 1000


def test_a_curve_that_ends_in_nan_or_is_missing_is_drawn_as_far_as_it_goes():
    plan = PLAN._replace(seeds=(0,))
    rows = all_rows(plan, ["mlp"])
    for made in rows:
        made["loss_curve"][30:] = [None] * 30
    raised = rows.pop()
    rows.append({k: raised[k] for k in Run._fields} | {"failed": "ValueError: no"})
    found = measures.outcomes(plan, rows)["mlp"]
    panels = picture.figure_of(plan, "mlp", found).axes
    assert len(panels) == 3  # of the group that has an entry
    drawn = panels[1].lines[0].get_ydata()
    assert math.isfinite(drawn[29]) and math.isnan(drawn[30])
    assert [len(panel.lines) for panel in panels] == [1] * 3


def test_a_group_without_rows_is_an_empty_column():
    plan = plans.PLANS["standard"]
    rows = [made_up(Run("mlp", "fixed", 1e-3, 0), True)]
    figure = picture.figure_of(plan, "mlp", measures.outcomes(plan, rows)["mlp"])
    legends = [panel.get_legend() for panel in figure.axes[-4:]]
    assert [legend is not None for legend in legends] == [True, False, False, False]


def test_another_plan_has_a_page_of_its_own(tmp_path, capsys):
    source = tmp_path / "quick.jsonl"
    plan = plans.PLANS["quick"]
    with source.open("w") as file:
        records.write(file, all_rows(plan, ["mlp"]))
    report.main(["--plan", "quick", "--results", str(source)])
    assert "1 pictures beside it" in capsys.readouterr().out
    text = (tmp_path / "quick.md").read_text()
    assert "15 of 45 results are there" in text and "(quick_mlp.png)" in text
    assert text.count(plans.TEST) == 2  # of the table of all tasks, and of each
    assert (tmp_path / "quick_mlp.png").exists()
    with pytest.raises(SystemExit, match="holds no runs; make them first"):
        report.main(["--plan", "full", "--results", str(tmp_path / "full.jsonl")])


def test_the_pictures_that_the_page_shows_are_there():
    made = report.blocks(records.rows(report.STANDARD))["docs/experiment_tasks.md"]
    shown = re.findall(r"\]\((.*?\.png)\)", made["tasks"])
    drawn = [path.name for path in picture.DOCS.glob("experiment_*.png")]
    assert sorted(shown) == sorted(drawn)


def test_made_up_rows_are_of_the_shape_that_the_runner_writes():
    from tests.examples.experiment.test_run import TASK, log, runner

    whole = runner.as_row(TASK, log()) | {"commit": "of the header"}
    used = set(made_up(Run("mlp", "trend", 1e-2, 0), True)) - set(Run._fields)
    assert used <= set(whole) and "failed" in used


def test_an_axis_of_curves_that_are_all_alike_has_a_range():
    alike = [np.full(3, 50.0)]
    assert picture.limits(ACCURACY, "validation", alike) == (49.0, 51.0)
    low, high = picture.limits(ACCURACY, "validation", [np.array([0.0, 100.0])])
    assert (low, high) == pytest.approx((7.3, 102.7))
