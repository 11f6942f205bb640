"""The study of searches records what the search does."""

import numpy as np
import optax

from benchmark import records
from benchmark.studies.beyond_home import methods, run, searches
from benchmark.studies.beyond_home.tasks import training
from optax_adaptive.controllers.search.settings import SearchSettings


def test_a_line_is_what_the_search_did(toy, tmp_path, monkeypatch):
    subject = training.Training(toy._replace(steps=400), optax.sgd, 1e-1)
    monkeypatch.setattr(run, "make_training", lambda name, data_dir: subject)
    monkeypatch.setattr(searches, "FORMS", ("autotune_anytime",))
    output = tmp_path / "searches.jsonl"
    searches.measure(output, ["toy"], [0], tmp_path)
    first = output.read_text()
    (row,) = records.rows(output)
    # A candidate is the square root of ten below the one before it.
    rates, settings = np.array(row["rates"]), SearchSettings()
    assert 3 <= len(rates) == len(row["losses"]) <= 8
    assert np.log(row["edge"] / rates[0]) / np.log(settings.ratio) >= 1.4
    np.testing.assert_allclose(
        rates[0] / rates[:3], settings.ratio ** np.arange(3), rtol=1e-2
    )
    assert 0 < row["range_steps"] < row["steps"] < searches.MOST_STEPS
    assert row["lowest_loss"] < row["first_loss"]
    assert row["found"] <= rates.max()
    # What is there is not run again; a new seed is.
    searches.measure(output, ["toy"], [0, 1], tmp_path)
    assert output.read_text().startswith(first)
    assert [row["seed"] for row in records.rows(output)] == [0, 1]


def test_the_table_gives_least_and_most():
    def row(seed, **more):
        same = {"steps": 100, "lowest_at": 0.5, "rates": [0.1, 0.03], "found": 0.02}
        names = {"task": "gpt", "method": "autotune", "seed": seed, "edge": 1.0}
        return names | same | more

    constant = methods.ENTRIES["constant, warm-up, averaged"].method
    schedules = [
        {"task": "gpt", "method": constant, "rate": rate, "failed": None}
        | {"validation": [1.0, loss], "is_accuracy": False}
        for rate, loss in ((0.01, 1.0), (0.1, 2.0))
    ]
    rows = [row(0), row(1, steps=200, found=0.04, rates=[0.1])]
    text = searches.table(rows, schedules).splitlines()[-1]
    cells = [cell.strip() for cell in text.strip("|").split("|")]
    assert cells == [
        *("gpt", "yes", "2", "100 to 200", "1", "0.5", "0.1", "1 to 2"),
        *("0.02 to 0.04", "0.01"),
    ]
    assert searches.table(rows, [])
