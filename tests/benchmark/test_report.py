"""The committed tables are those that the committed runs give."""

import math

import pytest

from benchmark import (
    blocks,
    measures,
    plans,
    records,
    report,
    summaries,
    tables,
)
from benchmark.studies.base_rate import picture
from benchmark.studies.beyond_home import report as beyond_home
from benchmark.tasks import DEVELOPMENT
from experiment.plan import TEST

STANDARD = records.read(report.RESULTS / "standard.jsonl")
BLOCKS = blocks.blocks(STANDARD)
TRANSFER = "Transfer tasks: all were drawn up before any was run."
KINDS = (DEVELOPMENT, TEST, TRANSFER)
# What each page's tables say of their tasks, by page and marker.
SAID = {
    "README.md": {"experiment": TEST},
    "docs/experiment.md": {"results": TEST},
    "docs/experiment_tasks.md": {"tasks": TEST},
    "docs/comparison.md": dict.fromkeys(("benchmark", "autotune"), DEVELOPMENT),
    "docs/research/autotune.md": dict.fromkeys(("robustness", "peers"), DEVELOPMENT),
    "docs/research/autotune_experiments.md": dict.fromkeys(
        ("ways_back", "gain", "kinds", "ablation"), DEVELOPMENT
    ),
    "docs/reliability.md": dict.fromkeys(
        ("raised", "unusual_noise", "summed"), DEVELOPMENT
    ),
    "docs/research/beyond_home.md": {"held_out": DEVELOPMENT},
    "docs/research/rl.md": dict.fromkeys(("anchors", "recovery"), DEVELOPMENT),
    "docs/research/rl_experiments.md": {"ablations": DEVELOPMENT},
    "docs/research/learned.md": {
        **dict.fromkeys(
            ("alone", "aims", "by_task", "with_others", "around"), DEVELOPMENT
        ),
        "makes": TRANSFER,
    },
    "docs/research/learned_experiments.md": dict.fromkeys(
        ("ablations", "paired"), DEVELOPMENT
    ),
}
PLAN = plans.Plan(("t",), ("adam",), ("cosine",), (1e-3, 1e-2, 1e-1), seeds=2)


@pytest.mark.parametrize("path, name", BLOCKS)
def test_tables_are_up_to_date(path, name):
    assert blocks.between(path.read_text(), name)[1] == BLOCKS[path, name]


@pytest.mark.skipif(not STANDARD, reason="no runs of the standard plan yet")
def test_summary_is_up_to_date():
    results = summaries.gather(STANDARD)
    text = (report.RESULTS / "summary.md").read_text()
    assert text == report.summary(STANDARD, results, plans.PLANS["standard"])


@pytest.mark.parametrize(
    "page, name", [(page, name) for page, names in SAID.items() for name in names]
)
def test_tables_say_what_their_tasks_are(page, name):
    said = {text: text in BLOCKS[blocks.ROOT / page, name] for text in KINDS}
    assert said == {text: text == SAID[page][name] for text in KINDS}


def test_tables_by_task_say_what_their_tasks_are(report_lines):
    results = measures.gather(report_lines)
    made = [tables.headline(results), *tables.details(results)]
    made += [*beyond_home.tables([]), beyond_home.shares([])]
    assert all(DEVELOPMENT in table.caption for table in made)


def test_what_is_bounded_is_shown_without_the_bound_as_well(report_lines):
    for line in report_lines[1:]:
        if (line["method"], line["base_rate"]) == ("trend", 1e-1):
            line["test"] = 3.0  # from 10
    results = measures.gather(report_lines)
    table = tables.headline(results)
    last = dict(zip(table.header, table.rows[-1], strict=True))
    assert last["method"] == "`trend`"
    assert last["worst rate"] == "-100.0 [-110.0]"  # 70 and 77 of 80 - 10
    assert last["median rate"] == "-1.4"
    _, worst, *_ = tables.details(results)
    assert worst.rows[2] == ["`trend`", "10.00 [3.000]"]
    assert worst.rows[0] == ["`cosine`", "80.00"]
    report_lines[-1]["failed"] = "not finite"
    results = measures.gather(report_lines)
    _, worst, *_ = tables.details(results)
    assert worst.rows[2] == ["`trend`", "10.00 [-∞]"]
    table = tables.headline(results)
    assert table.rows[-1][table.header.index("worst rate")] == "-100.0 [-∞]"


@pytest.fixture(scope="module")
def made_up():
    """For what the standard plan lacks: runs of the cosine, at the nearest rate."""
    plan, rows = plans.PLANS["standard"], {}
    for line in STANDARD:
        if "header" not in line:
            rows[records.key(line)] = line
    cosines = [key for key in rows if key[2] == "cosine"]
    made = []
    for method in plan.methods:
        for task in plan.tasks:
            for rate in plan.rates(method, "adam"):
                for seed in range(plan.seeds):
                    key = (task, "adam", method, rate, seed)
                    if key not in rows:
                        same = [k for k in cosines if (k[0], k[4]) == (task, seed)]
                        near = min(same, key=lambda k: abs(math.log(k[3] / rate)))
                        names = dict(zip(records.KEY, key, strict=True))
                        made.append(rows[near] | names)
    return made


@pytest.mark.skipif(not STANDARD, reason="no runs of the standard plan yet")
def test_the_tables_stand_once_the_whole_plan_is_run(made_up, monkeypatch):
    lines = [*STANDARD, *made_up]
    made = blocks.blocks(lines)
    text = made[blocks.ROOT / "docs/comparison.md", "benchmark"]
    assert "Not run yet" not in text and "averaged (control)" in text
    plan = plans.PLANS["standard"]
    for name in plan.methods:
        row = next(x for x in text.splitlines() if x.startswith(f"| `{name}` |"))
        assert f"| {summaries.family(name)} |" in row and "of 162 |" in row
    # The picture has a group for the controls.
    drawn = []
    monkeypatch.setattr(picture.records, "read", lambda path: lines)
    monkeypatch.setattr(
        picture.pictures, "save", lambda figure, *_, **__: drawn.append(figure)
    )
    picture.main()
    labels = {label.get_text() for label in drawn[0].legends[0].get_texts()}
    peers = sum(summaries.family(name) == "peer" for name in plan.methods)
    expected = {"controls with averaging, 2 lines", "constant_averaged"}
    assert {*expected, f"published methods, {peers} lines"} <= labels


@pytest.mark.skipif(not STANDARD, reason="no runs of the standard plan yet")
def test_the_tables_stand_while_the_plan_is_run(made_up):
    # Some methods have all nine rates, some eight, and one is run on some tasks alone.
    some = [
        line
        for line in made_up
        if line["method"] in ("cosine", "constant_averaged", "prodigy")
        or (line["method"], line["task"]) == ("linear", "digits")
    ]
    made = blocks.blocks([*STANDARD, *some])
    text = made[blocks.ROOT / "docs/comparison.md", "benchmark"]
    common = {len(runs.rates) for runs in summaries.gather(STANDARD).values()}
    count = 18 * min(common)  # six tasks, three seeds
    rows = [x for x in text.splitlines() if x.startswith("| `")]
    assert all(f"of {count} |" in row for row in rows)
    assert any(row.startswith("| `constant_averaged` | control |") for row in rows)


def test_findings_name_the_winner(report_lines):
    results = measures.gather(report_lines)
    text = report.summary(report_lines, results, PLAN)
    assert "Not run yet" not in text
    assert "on 0 of 1 tasks" in text
    for line in report_lines[1:]:
        if line["method"] == "cosine":
            line["validation"][-1], line["test"] = 90.0, 89.0
    text = report.summary(report_lines, measures.gather(report_lines), PLAN)
    assert "on 1 of 1 tasks: t (`cosine` 89.00, `autotune` 82.00)." in text


def test_headline_row(report_lines):
    table = tables.headline(measures.gather(report_lines))
    first = dict(zip(table.header, table.rows[0], strict=True))
    assert first["method"] == "`autotune`" and first["kind"] == "autotune"
    assert first["tuned"] == "+2.86 (+2.86, +2.86)"  # 2 of 80 - 10
    assert first["time to target"] == "0.75"  # 81 and 81 reach the target, 80
    assert first["failed + stuck"] == "0 + 0 of 6"
    cosine = dict(zip(table.header, table.rows[1], strict=True))
    assert cosine["tuned"] == "+0.00 (+0.00, +0.00)"
