"""The study of searches records what the search does."""

import optax

from benchmark import records
from benchmark.studies.beyond_home import methods, run, searches
from benchmark.studies.beyond_home.tasks import training


def test_a_line_is_what_the_search_did(toy, tmp_path, monkeypatch):
    subject = training.Training(toy._replace(steps=400), optax.sgd, 1e-1)
    monkeypatch.setattr(run, "make_training", lambda name, data_dir: subject)
    output = tmp_path / "searches.jsonl"
    searches.measure(output, ["toy"], [0], tmp_path)
    first = output.read_text()
    (row,) = records.rows(output)
    # Calibration and a trial come before and after the range test.
    assert row["range_steps"] > 8
    assert row["range_steps"] + 12 + 60 <= row["steps"] < searches.MOST_STEPS
    assert row["trials"] >= 1
    assert 0.0 < row["found"] <= row["turned_at"]
    # What is there is not run again; a new seed is.
    searches.measure(output, ["toy"], [0, 1], tmp_path)
    assert output.read_text().startswith(first)
    assert [row["seed"] for row in records.rows(output)] == [0, 1]


def test_the_table_gives_least_and_most():
    def row(seed, **more):
        same = {"steps": 100, "turned_at": 0.5, "trials": 1, "found": 0.02}
        return same | {"task": "gpt", "method": "autotune", "seed": seed} | more

    constant = methods.ENTRIES["constant, warm-up, averaged"].method
    schedules = [
        {"task": "gpt", "method": constant, "rate": rate, "failed": None}
        | {"validation": [1.0, loss], "is_accuracy": False}
        for rate, loss in ((0.01, 1.0), (0.1, 2.0))
    ]
    rows = [row(0), row(1, steps=200, found=0.04, trials=2)]
    text = searches.table(rows, schedules).splitlines()[-1]
    cells = [cell.strip() for cell in text.strip("|").split("|")]
    ends = ("gpt", "2", "100 to 200", "0.5", "1 to 2", "0.02 to 0.04", "0.01")
    assert cells == [*ends]
    assert searches.table(rows, [])
