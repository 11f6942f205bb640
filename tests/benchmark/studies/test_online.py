"""The learners around anchors: what ablations hide, and what tables make of rows."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmark import records, tasks
from benchmark.studies.base_rate import run as base_rate
from benchmark.studies.online import report, rules, run
from optax_adaptive.controllers.learned import gap_features, state_features
from optax_adaptive.controllers.online._learner import Learner, Transition


@pytest.mark.parametrize(
    ("wrap", "seen"),
    [
        (rules.blind, set()),
        (rules.gap_unseen, set(state_features.NAMES) - set(gap_features.NAMES)),
    ],
)
def test_an_ablation_hides_its_features_alone(wrap, seen):
    given = []
    learner = Learner(
        lambda: (),
        lambda state, features, *rest: (given.append(features), state),
        lambda state, transition: given.append(transition.features_t),
    )
    changed = wrap(learner)
    ones = jnp.ones((state_features.SIZE,))
    changed.act((), ones, None, None)
    changed.learn((), Transition(ones, 0.0, 0.0, ones, 1.0))
    expected = [name in seen for name in state_features.NAMES]
    assert len(given) == 2
    for features in given:
        np.testing.assert_array_equal(features, expected)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["constant", "bandit"])
def test_around_a_schedule_a_learner_begins_at_its_lowest_action(name):
    task = tasks.TASKS["short"](None)
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        train = run.make_run(task, rules.RULES[name])
        metric, factors, _ = train(jnp.float32(1e-2), jnp.zeros(1), jnp.arange(1))
    assert metric.shape == (1,) and 20 < float(metric[0]) <= 100
    assert factors.shape == (1, run.TRACE)
    assert (float(factors[0, 0]) < -1.0) == (name == "bandit")


def test_peaks_are_the_best_of_the_committed_rows():
    peaks = run.tuned_peaks()
    assert set(peaks) == {*tasks.TASKS, *run.LONG}
    lines = records.rows(base_rate.RESULTS / "robustness.jsonl")
    for task in run.NAMES:
        finals = {}
        for line in lines:
            if (line["task"], line["method"]) == (task, "cosine"):
                last = line["validation"][-1]
                finals.setdefault(line["base_rate"], []).append(last)
        sign = 1 if task in tasks.ACCURACY else -1
        best = max(finals, key=lambda rate: sign * np.mean(finals[rate]))
        assert min(finals) < best < max(finals)  # else the grid is too short
        assert 10 ** peaks[task] == pytest.approx(best, rel=0.01)


def test_the_page_says_which_peaks_are_not_the_best_any_more(tmp_path):
    row = {"anchor": "cosine", "offset": 1.0, "method": "constant", "seed": 0}
    lines = []
    for exponent, metric in ((-5 / 3, 100.0), (-4 / 3, 90.0)):
        peaks = {"demand": exponent, "digits": -7 / 3}
        lines.append({"header": {"config": {"peaks": peaks}}})
        lines += [row | {"task": task, "metric": metric} for task in peaks]
        path = tmp_path / "results.jsonl"
        path.write_text("\n".join(map(json.dumps, lines)))
        table = report.read(path)
        text = report.said_of_peaks(table, {"demand": -4 / 3, "digits": -7 / 3})
        named = ", but on demand (2.2e-02, where the best is 4.6e-02)."
        assert text.endswith(named if exponent == -5 / 3 else "on validation.")
    # Of demand it is the last peak's run that counts.
    assert table["demand", "cosine", 1.0, "constant"]["metric"].tolist() == [90.0]


def test_a_run_at_another_peak_does_not_count_as_there(tmp_path, monkeypatch):
    asked = []

    def run_method(task, name, method, missing, find, peak):
        asked.append((name, method, missing, peak))
        names = {"task": name, "anchor": run.ANCHOR, "offset": 1.0, "method": method}
        return [names | {"seed": 0, "metric": 1.0}]

    monkeypatch.setattr(run, "run_method", run_method)
    monkeypatch.setattr(run, "make_task", lambda name, data_dir: None)
    path = tmp_path / "rows.jsonl"
    flags = f"x --tasks digits --methods constant --offsets 1 --seeds 1 --output {path}"
    monkeypatch.setattr("sys.argv", flags.split())
    for peak, runs in ((-2.0, 1), (-2.0, 1), (-1.0, 2), (-1.0, 2)):
        monkeypatch.setattr(run, "tuned_peaks", lambda peak=peak: {"digits": peak})
        run.main()
        assert len(asked) == runs
    assert asked[1] == ("digits", "constant", {1.0: [0]}, -1.0)
    assert [row["peak"] for row in run.read_rows(path)] == [-2.0, -1.0]


def test_tables_pair_by_seed(tmp_path):
    def row(offset, method, seed, metric):
        names = {"task": "demand", "anchor": "cosine", "offset": offset}
        numbers = {"seed": seed, "metric": metric, "log_factors": [0.0]}
        return names | {"method": method} | numbers

    rows = [
        *(row(1.0, "constant", seed, 100.0 + seed) for seed in range(4)),
        *(row(0.1, "constant", seed, 200.0 + seed) for seed in range(3)),
        row(1.0, "bandit", 3, 51.5),
        row(1.0, "bandit", 1, 50.5),
        row(0.1, "bandit", 1, 151.0),
    ]
    path = tmp_path / "results.jsonl"
    path.write_text("\n".join(map(json.dumps, [{"header": {}}, *rows])))
    table = report.read(path)
    gains = report.improvement(table, "demand", "cosine", "bandit")
    np.testing.assert_allclose(gains, [50, 50])  # of seeds 1 and 3
    assert report.recovered(table, "demand", 0.1, "bandit") == "0.50"  # of seed 1
    assert report.recovered(table, "demand", 10.0, "bandit") == "–"
    blocks = report.blocks(table)
    assert "| demand, cosine | 101.5 MW | +50.00 ± 0.00 |" in blocks["anchors"]
    assert "| demand, x0.1 | 201.0 (101.0) | 0.50 |" in blocks["recovery"]
