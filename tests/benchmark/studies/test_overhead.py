"""The study of what compilation costs: a row for each number of arrays."""

import json

import pytest

from benchmark.studies.overhead import compile as compilation


@pytest.mark.slow
def test_a_line_for_each_method_and_number_of_arrays(tmp_path):
    lines = compilation.measure(leaves=(1, 2), repetitions=1)
    found = [(line["leaves"], line["method"]) for line in lines]
    counts = (1, 2, compilation.EAGER)
    assert found == [(n, method) for n in counts for method in compilation.METHODS]
    assert all(isinstance(line["seconds"], float) for line in lines)

    path = tmp_path / "rows.jsonl"
    header = {"header": {"config": {"cores": 2}}}
    path.write_text("".join(json.dumps(line) + "\n" for line in [header, *lines]))
    table = compilation.table(path)
    assert [row[0] for row in table.rows] == ["1", "2", compilation.EAGER]
    assert table.header[1:] == [f"`{name}`" for name in compilation.METHODS]
    columns = 1 + len(compilation.METHODS)
    assert all(len(row) == columns and row[1].endswith(" s") for row in table.rows)
