"""The committed tables are those that the committed runs give; the page is whole."""

import re

import pytest

from benchmark import blocks, charts, measures, records, report, tables

STANDARD = records.read(report.RESULTS / "standard.jsonl")
BLOCKS = blocks.blocks(STANDARD)


@pytest.mark.parametrize("path, name", BLOCKS)
def test_tables_are_up_to_date(path, name):
    assert blocks.between(path.read_text(), name)[1] == BLOCKS[path, name]


@pytest.mark.skipif(not STANDARD, reason="no runs of the standard plan yet")
def test_summary_is_up_to_date():
    results = measures.gather(STANDARD)
    text = (report.RESULTS / "summary.md").read_text()
    assert text == report.summary(STANDARD, results)


def test_page_needs_nothing_else(report_lines):
    html = report.html(report_lines, measures.gather(report_lines))
    assert not re.search(r"""(src|href)=|url\(|@import|\$\w""", html)
    assert html.count("<table>") == 8
    assert html.count('<svg viewBox="0 0 340') == 3 * 2 + 2 * 2  # of two families
    assert "<code>autotune</code>" in html


def test_findings_name_the_winner(report_lines):
    results = measures.gather(report_lines)
    text = report.summary(report_lines, results)
    assert "on 0 of 1 tasks" in text
    for line in report_lines[1:]:
        if line["method"] == "cosine":
            line["validation"][-1], line["test"] = 90.0, 89.0
    text = report.summary(report_lines, measures.gather(report_lines))
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


def test_ticks_are_round():
    assert charts.ticks(0.1, 8.3, False) == [2, 4, 6, 8]
    assert charts.ticks(-7.3, 1.3, True) == [-7, -5, -3, -1, 1]


def test_chart_leaves_out_what_is_not_finite():
    line = charts.Line("a", [1, 2, 3, 0], [1.0, float("nan"), 3.0, 2.0], "")
    svg = charts.chart("t", [line], "x", (True, False))
    path = re.search(r'<path d="M([^"]*)" class="line"', svg).group(1)
    assert len(path.split("L")) == 2
