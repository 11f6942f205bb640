"""The committed tables are those that the committed runs give; the page is whole."""

import re

import pytest

from benchmark import charts, measures, other_tables, records, report, tables
from methods import rules
from tests.benchmark.test_measures import header, row

STANDARD = records.read(report.RESULTS / "standard.jsonl")
OTHERS = [records.read(report.RESULTS / f"{n}.jsonl") for n in report.AUTOTUNE_PLANS]


BLOCKS = report.blocks(STANDARD, OTHERS)


@pytest.mark.parametrize("path, name", BLOCKS)
def test_tables_are_up_to_date(path, name):
    assert report.between(path.read_text(), name)[1] == BLOCKS[path, name]


@pytest.mark.skipif(not STANDARD, reason="no runs of the standard plan yet")
def test_summary_is_up_to_date():
    results = measures.gather(STANDARD)
    text = (report.RESULTS / "summary.md").read_text()
    assert text == report.summary(STANDARD, results)


@pytest.fixture
def lines():
    made = [header()]
    made[0]["header"] |= {"device": "cpu", "seconds": 3.0, "commit": "abc"}
    made[0]["header"] |= dict.fromkeys(
        ("python", "jax", "optax", "optax_adaptive"), "1"
    )
    for method, ends in {"cosine": 80.0, "autotune": 82.0, "trend": 79.0}.items():
        for rate in (1e-3, 1e-2, 1e-1):
            for seed in (0, 1):
                validation = [20.0, 50.0, ends - 1, ends + seed]
                made.append(row(method, rate, seed, validation, ends))
    return made


def test_page_needs_nothing_else(lines):
    html = report.html(lines, measures.gather(lines))
    assert not re.search(r"""(src|href)=|url\(|@import|\$\w""", html)
    assert html.count("<table>") == 8
    assert html.count('<svg viewBox="0 0 340') == 3 * 2 + 2 * 2  # of two families
    assert "<code>autotune</code>" in html


def test_findings_name_the_winner(lines):
    results = measures.gather(lines)
    text = report.summary(lines, results)
    assert "on 0 of 1 tasks" in text
    for line in lines[1:]:
        if line["method"] == "cosine":
            line["validation"][-1], line["test"] = 90.0, 89.0
    text = report.summary(lines, measures.gather(lines))
    assert "on 1 of 1 tasks: t (`cosine` 89.00, `autotune` 82.00)." in text


def test_headline_row(lines):
    table = tables.headline(measures.gather(lines))
    first = dict(zip(table.header, table.rows[0], strict=True))
    assert first["method"] == "`autotune`" and first["kind"] == "autotune"
    assert first["tuned"] == "+2.86 (+2.86, +2.86)"  # 2 of 80 - 10
    assert first["time to target"] == "0.75"  # 81 and 81 reach the target, 80
    assert first["failed + stuck"] == "0 + 0 of 6"
    cosine = dict(zip(table.header, table.rows[1], strict=True))
    assert cosine["tuned"] == "+0.00 (+0.00, +0.00)"


def test_autotune_is_compared_with_the_cosine_of_its_own_file(lines):
    lines += [
        line | {"method": name}
        for name in list(rules.AUTOTUNE)[1:]
        for line in lines
        if "method" in line and line["method"] == "autotune"
    ]
    finer = [line for line in lines if line.get("seed") != 1]  # fewer seeds
    for line in finer[1:]:
        line["test"] -= 40.0
    every = other_tables.with_autotune([measures.gather(finer), measures.gather(lines)])
    assert {runs.test.shape for runs in every.values()} == {(3, 1)}
    (row,) = other_tables.autotune(every).rows
    assert row == ["t, %", "adam", "40.00 ± 0 (1.0e-03)", *4 * ["+2.00"]]
    partial = [line for line in finer if line.get("method") != "autotune"]
    every = other_tables.with_autotune(
        [measures.gather(partial), measures.gather(lines)]
    )
    assert {runs.test.shape for runs in every.values()} == {(3, 2)}


def test_peers_are_compared_on_their_own_seeds(lines):
    peer = [lines[0]]
    for line in lines[1:]:
        if line["method"] == "trend" and line["seed"] == 0:
            failed = {"test": 20.0} if line["base_rate"] == 1e-1 else {}
            peer.append(line | {"method": "prodigy"} | failed)
    own = [line for line in lines if line.get("method") != "trend"]
    both = other_tables.with_peers(measures.gather(own), measures.gather(peer))
    assert {runs.test.shape for runs in both.values()} == {(3, 1)}
    assert other_tables.peers(both).rows == [
        ["`autotune`", "+2.9", "+2.9", "+2.0 / +2.0"],  # 2 of 80 - 10
        ["`prodigy`", "-85.7", "-1.4", "-60.0 / -1.0"],
    ]
    assert other_tables.with_peers(measures.gather(own), {}) == {}


def test_ticks_are_round():
    assert charts.ticks(0.1, 8.3, False) == [2, 4, 6, 8]
    assert charts.ticks(-7.3, 1.3, True) == [-7, -5, -3, -1, 1]


def test_chart_leaves_out_what_is_not_finite():
    line = charts.Line("a", [1, 2, 3, 0], [1.0, float("nan"), 3.0, 2.0], "")
    svg = charts.chart("t", [line], "x", (True, False))
    path = re.search(r'<path d="M([^"]*)" class="line"', svg).group(1)
    assert len(path.split("L")) == 2
