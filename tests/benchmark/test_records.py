"""Files of rows: what is written short is read whole."""

import io
import json

import pytest

from benchmark import records

HEADER = {"header": {"config": {"task": "t", "optimizer": "sgd", "method": "m"}}}


def row(**fields):
    names = {"task": "t", "optimizer": "sgd", "method": "m", "base_rate": 0.1}
    return names | {"seed": 0, "failed": None, "validation": [1.0]} | fields


def written(lines):
    file = io.StringIO()
    records.write(file, lines)
    return file.getvalue()


@pytest.mark.parametrize(
    "curve", [[], [1.0], [2.0, 2.0], [None, None, None, 3.0], [1.0, *40 * [2.5], 1.0]]
)
def test_rows_are_read_as_they_were_written(curve, tmp_path):
    lines = [HEADER, row(validation=curve), row(seed=1, failed="not finite")]
    path = tmp_path / "rows.jsonl"
    path.write_text(written(lines))
    assert records.read(path) == lines
    assert records.rows(path) == lines[1:]


def test_a_row_does_not_repeat_its_header():
    lines = [HEADER, row(validation=[1.5] * 40), row(method="other")]
    _, first, other = map(json.loads, written(lines).splitlines())
    assert first == {"base_rate": 0.1, "seed": 0, "validation": [[1.5, 40]]}
    assert other["method"] == "other" and "task" not in other


def test_without_a_header_a_row_names_everything():
    assert json.loads(written([row()])) == row()


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [(849.96, 4, "850"), (0.123456, 3, "0.123"), (float("nan"), 3, "null")],
)
def test_numbers_are_short(value, digits, text):
    assert records.as_json(records.number(value, digits)) == text


def test_arrays_keep_their_axes():
    found = records.numbers([[1.23456, float("inf")], [3.0, 4.0]], 3)
    assert found == [[1.23, None], [3, 4]]
