"""The runner tunes as it says and resumes, and the tables are computed by hand."""

import jax
import numpy as np
import optax

from benchmark import records
from benchmark.studies.beyond_home import methods, report, run
from benchmark.studies.beyond_home.tasks import training


def row(task, method, rate, last, averaged, seed=0, **more):
    names = dict(zip(run.KEY, (task, method, rate, seed), strict=True))
    pair = {"validation": [last, averaged], "is_accuracy": False, "failed": None}
    return names | pair | more


def test_tuning_goes_on_until_the_best_is_inside():
    def tried(losses):
        return {
            place: [row("a", "cosine", run.rate_at(place), *pair)]
            for place, pair in losses.items()
        }

    assert run.next_places("cosine", {}, -8) == [-8, -9, -7]
    # The last parameters want a lower rate, their average a higher one.
    losses = {-9: (1.0, 3.0), -8: (2.0, 2.0), -7: (3.0, 1.0)}
    assert run.next_places("cosine", tried(losses), -8) == [-10, -6]
    losses |= {-10: (2.0, 3.0), -6: (4.0, 2.0)}
    assert run.next_places("cosine", tried(losses), -8) == []
    # Of the linear decay the average is no entry; and a failed run is the worst.
    losses = {-9: (2.0, 3.0), -8: (1.0, 2.0), -7: (None, 1.0)}
    rows = {
        p: [each | {"method": "linear"} for each in r] for p, r in tried(losses).items()
    }
    assert run.next_places("linear", rows, -8) == []
    # Not beyond the grid.
    losses = {place: (1.0 - place, 1.0) for place in (1, 2, 3)}
    assert run.next_places("linear", tried(losses), 2) == []


def test_the_runner_resumes(toy, tmp_path, monkeypatch):
    subject = training.Training(toy, optax.sgd, 1e-1)
    calls = []
    monkeypatch.setattr(run, "make_training", lambda name, data_dir: subject)

    def counted(subject, method, make=run.make_run):
        train = make(subject, method)

        def count(rate, seed):
            jax.debug.callback(lambda rate: calls.append(float(rate)), rate)
            return train(rate, seed)

        return count

    monkeypatch.setattr(run, "make_run", counted)
    output = tmp_path / "rows.jsonl"
    group = run.Group("toy", "constant", (0,), tmp_path, output)
    run.run_group(group)
    rows = records.rows(output)
    keys = [tuple(r[name] for name in run.KEY) for r in rows]
    assert len(set(keys)) == len(rows) == len(calls) >= 3
    assert rows[0]["steps"] == 200 and len(rows[0]["validation"]) == 2
    # The last line is cut off in the middle: that run alone is made again.
    whole = output.read_text()
    output.write_text(whole[:-20])
    run.run_group(group)
    assert len(calls) == len(rows) + 1
    again = {tuple(r[name] for name in run.KEY): r for r in records.rows(output)}
    assert [again[key]["validation"] for key in keys] == [r["validation"] for r in rows]
    # And with all there, none.
    run.run_group(group)
    assert len(calls) == len(rows) + 1


def test_autotune_has_one_rate_and_says_which_it_found(toy, tmp_path, monkeypatch):
    subject = training.Training(toy, optax.sgd, 1e-1)
    monkeypatch.setattr(run, "make_training", lambda name, data_dir: subject)
    output = tmp_path / "rows.jsonl"
    run.run_group(run.Group("toy", "autotune", (0,), tmp_path, output))
    (found,) = records.rows(output)
    assert found["rate"] == methods.BASE_RATE and found["found_rate"] > 0
    # The best is an offset of 1 on validation, and of 2 on test.
    np.testing.assert_allclose(found["validation"][1], 1.0, atol=0.1)
    np.testing.assert_allclose(found["test"][1], 2.0, atol=0.1)


def made_up_rows():
    """Two seeds; the cosine is best with warm-up, at 1e-2, where it has 2 and 8."""
    rows = []
    for seed, factor in enumerate((1.0, 4.0)):
        for method, rate, last, averaged in (
            ("cosine", 1e-3, 4.0, 4.0),
            ("cosine", 1e-2, 3.0, 4.0),
            ("cosine", 1e-1, 3.5, 4.0),
            ("cosine_warmup", 1e-2, 2.0, 1.0),
            ("cosine_warmup", 1e-1, 5.0, 5.0),
            ("constant", 1e-3, 0.1, 3.0),
            ("constant", 1e-2, 0.1, 2.5),
            ("autotune", 1e-3, 0.1, 4.0),
        ):
            made = row(
                "diffusion", method, rate, last * factor, averaged * factor, seed
            )
            rows.append(made | {"found_rate": 1e-2 * factor})
    rows.append(row("diffusion", "constant", 1e-1, 0.1, 0.1))  # its other seed fails
    rows.append(row("diffusion", "constant", 1e-1, None, None, 1, failed="not finite"))
    rows.append(row("diffusion", "linear", 1e-2, 1.0, 1.0))  # of one seed as yet
    return rows


def test_ratios_by_hand():
    ratios, rates = report.tables(made_up_rows(), (0, 1))
    cells = dict(zip(ratios.header, ratios.rows[0], strict=True))
    assert cells["tuned cosine"] == "5*"  # the mean of 2 and 8; no lower rate was run
    assert cells["cosine"] == "1.500" and cells["cosine, warm-up"] == "1.000*"
    assert cells["cosine, warm-up, averaged"] == "0.500*"
    assert cells["constant, averaged"] == "1.250" and cells["autotune"] == "2.000"
    assert cells["linear"] == cells["autotune, no total_steps"] == ""
    assert ratios.rows[1][0] == "**diffusion, 1 of 1**"
    assert (
        dict(zip(ratios.header, ratios.rows[1], strict=True))["cosine"] == "**1.500**"
    )
    cells = dict(zip(rates.header, rates.rows[0], strict=True))
    assert cells["cosine"] == cells["constant, averaged"] == "0.01"
    assert cells["autotune"] == "0.02"  # between 1e-2 and 4e-2


def test_seeds_are_those_of_a_task_or_those_asked_for():
    rows = [
        row("poisson", method, 1e-2, loss, loss)
        for method, loss in (("cosine", 1.0), ("cosine_warmup", 2.0))
    ]
    ratios, _ = report.tables(rows + made_up_rows())  # one has a seed, one two
    assert [cells[0] for cells in ratios.rows if "**" not in cells[0]] == [
        "diffusion",
        "poisson",
    ]
    ratios, _ = report.tables(made_up_rows(), (0,))
    assert ratios.rows[0][1] == "2*"


def test_an_accuracy_counts_by_what_is_wrong():
    rows = [
        row("noisy_10k", method, 1e-2, last, last, is_accuracy=True, found_rate=1e-2)
        for method, last in (
            ("cosine", 90.0),
            ("cosine_warmup", 80.0),
            ("autotune", 85.0),
        )
    ]
    ratios, _ = report.tables(rows, (0,))
    cells = dict(zip(ratios.header, ratios.rows[0], strict=True))
    assert cells["autotune"] == "1.500" and cells["cosine, warm-up"] == "2.000*"


def test_a_family_has_a_mean_of_what_all_its_tasks_have():
    rows = [
        row(task, method, 1e-2, loss, loss, found_rate=1e-2)
        for task, factor in (("poisson", 2.0), ("burgers", 8.0))
        for method, loss in (
            ("cosine", 1.0),
            ("cosine_warmup", 1.0),
            ("autotune", factor),
        )
    ]
    ratios, _ = report.tables([*rows, row("poisson", "linear", 1e-2, 1.0, 1.0)], (0,))
    title, _, *cells = ratios.rows[2]
    found = dict(zip(methods.ENTRIES, cells, strict=True))
    assert title == "**little noise, 2 of 2**"
    assert found["autotune"] == "**4.000**" and found["linear"] == ""


def test_other_seeds_are_run_at_the_rates_that_were_tuned(tmp_path):
    names = ("cosine", "constant", "constant_warmup", "autotune")
    output = tmp_path / "rows.jsonl"
    base = [run.Group("diffusion", name, (5,), tmp_path, output) for name in names]
    groups = run.groups_at_tuned_rates(made_up_rows(), base)
    # The constant without warm-up is not wanted; of that with one there are no rows.
    rates = {group.method: group.rate for group in groups}
    assert rates == {"cosine": 1e-2, "autotune": None}


def test_a_ratio_is_bounded_and_shown_without_the_bound_as_well():
    rows = [
        row("poisson", method, 1e-2, loss, loss, seed, found_rate=1e-2, steps=5000)
        for seed, factor in ((5, 4000.0), (6, 9000.0))
        for method, loss in (
            ("cosine", 1.0),
            ("cosine_warmup", 1.0),
            ("constant_warmup", 1.0),
            ("autotune", factor),
            ("autotune_anytime", 2.0),
        )
    ]
    cells = report.tables(rows, (5, 6))[0].rows[0]
    assert "1000.000 [6000.000]" in cells and "2.000" in cells
    text = report.held_out(rows)
    assert text.startswith("Development tasks: they helped to choose")
    assert "| 1.000 | 1000.000 [6000.000] | 2.000 |" in text


def test_the_share_of_the_decrease_is_that_of_logarithms():
    rows = [
        row("poisson", "cosine", 1e-2, 1e-4, 1e-4, initial=1.0),
        row("poisson", "autotune", 1e-3, 1e-3, 1e-3, initial=1.0, found_rate=1e-2),
    ]
    cells = report.shares(rows, (0,)).rows[0]
    assert dict(zip(report.shares(rows, (0,)).header, cells, strict=True)) == {
        "task": "poisson",
        "autotune": "0.750",
        "autotune, no total_steps": "",
        "learned": "",
        "learned, no total_steps": "",
    }


def test_the_page_has_what_is_whole_on_other_seeds():
    rows = [
        row("diffusion", method, 1e-2, last, averaged, seed, steps=5000, found_rate=1.0)
        for seed in (5, 6)
        for method, last, averaged in (
            ("cosine", 4.0, 9.0),
            ("cosine_warmup", 2.0, 9.0),
            ("constant_warmup", 9.0, 3.0),
            ("autotune", 9.0, 2.5),
            ("autotune_anytime", 9.0, 2.2),
        )
    ]
    rows += [row("poisson", "cosine", 1e-2, 1.0, 1.0, steps=5000)]  # it alone as yet
    text = report.held_out(rows)
    # Of learned there are no rows.
    assert "| diffusion | 2 | 5,000 | 2 | 1.500 | 1.250 | 1.100 |  |  |" in text
    assert "poisson" not in text
