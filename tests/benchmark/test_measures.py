"""Measures on cases that were worked out by hand."""

import numpy as np
import pytest

from benchmark import findings, measures, plans, summaries

inf, nan = np.inf, np.nan


def row(method, rate, seed, validation, test, failed=None, task="t", **fields):
    return {
        "task": task,
        "optimizer": "adam",
        "method": method,
        "base_rate": rate,
        "seed": seed,
        "failed": failed,
        "initial": 10.0,
        "validation": validation,
        "learning_rate": [rate] * len(validation),
        "late_loss_std": 0.5,
        "train": 95.0,
        "test": test,
    } | fields


def header(task="t", is_accuracy=True):
    config = {"task": task, "steps": 100, "steps_per_epoch": 20, "unit": "%"}
    return {"header": {"config": config | {"is_accuracy": is_accuracy}}}


@pytest.fixture
def lines():
    """Two rates and seeds of the cosine, and a method that fails once."""
    return [
        header(),
        row("cosine", 0.1, 0, [20.0, 50.0, 60.0, 80.0], 79.0),
        row("cosine", 0.1, 1, [20.0, 50.0, 72.0, 84.0], 83.0),
        row("cosine", 1.0, 0, [20.0, 30.0, 40.0, 50.0], 48.0),
        row("cosine", 1.0, 1, [20.0, 30.0, 40.0, 52.0], 50.0),
        row("other", 0.1, 0, [30.0, 80.0, 85.0, 86.0], 84.0),
        row("other", 0.1, 1, [30.0, 40.0, 70.0, 79.0], 81.0),
        row("other", 1.0, 0, [20.0, None, None, 99.0], 99.0, "not finite"),
        row("other", 1.0, 1, [8.0, 7.0, 6.0, 5.0], 6.0),
    ]


def test_gather_makes_grids(lines):
    results = measures.gather(lines)
    runs = results["t", "adam", "other"]
    np.testing.assert_array_equal(runs.rates, [0.1, 1.0])
    np.testing.assert_array_equal(runs.failed, [[False, False], [True, False]])
    np.testing.assert_array_equal(runs.test, [[84, 81], [99, 6]])
    np.testing.assert_array_equal(runs.validation[1, 0], [20, nan, nan, 99])
    assert runs.facts == (100, 20, True, "%")


def test_shares_are_of_what_the_tuned_cosine_improves(lines):
    results = measures.gather(lines)
    runs, cosine = (results["t", "adam", name] for name in ("other", "cosine"))
    # The cosine ends at 79 and 83 from 10: 71 better; the failed run is at its start.
    want = [[100 * 5 / 71, 100 * -2 / 71], [100 * -69 / 71, 100 * -73 / 71]]
    np.testing.assert_allclose(summaries.shares(runs, cosine), want)
    losses = [header(is_accuracy=False)]
    losses += [row("cosine", 0.1, seed, [4.0], 2.0) for seed in (0, 1)]
    losses += [row("other", 0.1, seed, [1.0], 1.0) for seed in (0, 1)]
    results = measures.gather(losses)
    runs, cosine = (results["t", "adam", name] for name in ("other", "cosine"))
    np.testing.assert_allclose(summaries.shares(runs, cosine), 100 * 1 / 8)


def test_seeds_must_be_paired(lines):
    results = measures.gather(lines[:-4] + [lines[5]])
    runs, cosine = (results["t", "adam", name] for name in ("other", "cosine"))
    with pytest.raises(ValueError, match="seeds must be paired"):
        summaries.improvements(runs, cosine)


def test_gather_leaves_out_what_is_incomplete(lines):
    assert list(measures.gather(lines[:-1])) == [("t", "adam", "cosine")]


def test_rows_of_an_exception_have_no_values(lines):
    names = ("task", "optimizer", "method", "base_rate", "seed")
    bare = {name: lines[1][name] for name in names}
    bare |= {"method": "broken", "failed": "ValueError: no"}
    runs = measures.gather([*lines, bare])["t", "adam", "broken"]
    np.testing.assert_array_equal(measures.final_test(runs), [[10.0]])
    assert runs.validation.shape == (1, 1, 4)


def test_failed_and_worse_than_begun_count_as_begun(lines):
    runs = measures.gather(lines)["t", "adam", "other"]
    np.testing.assert_array_equal(measures.final_test(runs), [[84, 81], [10, 10]])
    np.testing.assert_array_equal(measures.final_validation(runs), [[86, 79], [10, 10]])
    np.testing.assert_array_equal(measures.is_stuck(runs), [[False] * 2, [False, True]])


def test_without_the_bound_they_count_as_they_are(lines):
    runs = measures.gather(lines)["t", "adam", "other"]
    final = measures.final_test(runs, measures.uncapped)
    np.testing.assert_array_equal(final, [[84, 81], [-inf, 6]])
    final = measures.final_validation(runs, measures.uncapped)
    np.testing.assert_array_equal(final, [[86, 79], [-inf, 5]])
    lines[0], lines[7]["test"] = header(is_accuracy=False), None
    runs = measures.gather(lines)["t", "adam", "other"]
    assert measures.final_test(runs, measures.uncapped)[1, 0] == inf


def test_methods_are_compared_at_the_rates_that_all_of_them_have(lines):
    more = [row("cosine", 10.0, seed, [20.0] * 4, 99.0) for seed in (0, 1)]
    results = summaries.gather([*lines, *more])
    for name in ("cosine", "other"):
        np.testing.assert_array_equal(results["t", "adam", name].rates, [0.1, 1.0])
    assert {r.runs for r in summaries.summaries(results)} == {4}
    more += [row("other", 10.0, seed, [20.0] * 4, 99.0) for seed in (0, 1)]
    assert len(summaries.gather([*lines, *more])["t", "adam", "other"].rates) == 3
    # A method that has not been run on all tasks takes no rate away.
    new = [header("u"), *(r | {"task": "u"} for r in lines[1:])]
    new += [row("new", 1.0, seed, [20.0] * 4, 99.0) for seed in (0, 1)]
    assert len(summaries.gather([*lines, *new])["t", "adam", "cosine"].rates) == 2
    other = [r for r in lines if r.get("method") != "other" or r["base_rate"] == 1.0]
    other = [r for r in other if r.get("method") != "cosine" or r["base_rate"] == 0.1]
    with pytest.raises(ValueError, match="no base rate on t was run with all methods"):
        summaries.gather(other)


def test_what_is_missing_of_a_plan_is_said(lines):
    plan = plans.Plan(("t",), ("adam",), ("cosine", "other", "new"), (0.1, 1.0), 2)
    (text,) = findings.missing(lines, plan)
    assert text.startswith(
        "Not run yet of the plan, on some tasks at least: `new`. All figures are"
    )
    plan = plan._replace(methods=("cosine", "other"))
    assert findings.missing(lines, plan) == []
    (text,) = findings.missing(lines, plan._replace(base_rates=(0.1, 1.0, 10.0)))
    assert "at least: base rate 10 of 2 methods. All" in text
    (text,) = findings.missing(lines[:-1], plan)  # a seed is missing
    assert "at least: base rate 1 of 1 methods. All" in text


def test_tuned_is_by_validation(lines):
    results = measures.gather(lines)
    assert measures.tuned(results["t", "adam", "cosine"]) == 0
    lines[3]["validation"][-1] = 200.0  # test stays poor
    assert measures.tuned(measures.gather(lines)["t", "adam", "cosine"]) == 1


def test_target_is_the_worst_seed_of_the_tuned_cosine(lines):
    assert measures.target(measures.gather(lines)["t", "adam", "cosine"]) == 80.0
    for line in lines[1:]:
        line["initial"] = 100.0  # as a loss, the smaller rate is the worse one
    lines[0] = header(is_accuracy=False)
    assert measures.target(measures.gather(lines)["t", "adam", "cosine"]) == 52.0


def test_gain():
    assert measures.improvement(82.0, 80.0, True) == 2.0
    assert measures.improvement(1.8, 2.0, False) == pytest.approx(10.0)
    assert measures.improvement(-1.8, -2.0, False) == pytest.approx(-10.0)


def test_time_to():
    validation = np.array([[1.0, 5.0, 3.0, 6.0], [1.0, 2.0, nan, 3.0]])
    np.testing.assert_array_equal(measures.time_to(validation, 5.0, True), [0.5, inf])
    np.testing.assert_array_equal(measures.time_to(validation, 2.0, False), [0.25] * 2)


def test_geometric_mean():
    assert measures.geometric_mean(np.array([0.25, 1.0])) == pytest.approx(0.5)
    assert measures.geometric_mean(np.array([0.25, inf])) == inf


def profile(times, taus):
    """(m, tau): share of workloads within a factor tau of the fastest."""
    return (measures.ratios(times)[:, :, None] <= taus).mean(1)


def test_profile_and_score():
    # On three workloads: fastest, within 2, missed; within 4, fastest, missed by all.
    times = np.array([[1.0, 2.0, inf], [4.0, 1.0, inf]])
    np.testing.assert_array_equal(
        measures.ratios(times), [[1.0, 2.0, inf], [4.0, 1.0, inf]]
    )
    shares = profile(times, np.array([1.0, 2.0, 4.0]))
    np.testing.assert_allclose(shares, [[1 / 3, 2 / 3, 2 / 3], [1 / 3, 1 / 3, 2 / 3]])
    # A third of (3 + 2) / 3 and of (0 + 3) / 3.
    np.testing.assert_allclose(measures.score(times), [5 / 9, 1 / 3])


def test_score_is_the_integral_of_the_profile():
    times = np.random.default_rng(0).lognormal(size=(3, 5))
    taus = np.linspace(1, 4, 100_001)
    shares = profile(times, taus)
    np.testing.assert_allclose(measures.score(times), shares.mean(1), atol=1e-4)


def test_sensitivity():
    # Best 1, begun at 5, and a rate that ended at 9 counts as 5: (0 + 2 + 4) / 3 of 4.
    assert measures.sensitivity(np.array([1.0, 3.0, 9.0]), 5.0) == pytest.approx(50.0)
    assert measures.sensitivity(np.array([2.0, 2.0]), 5.0) == 0.0
    assert measures.sensitivity(np.array([5.0, 5.0]), 5.0) == 100.0
    # Without the cap (0 + 2 + 8) / 3 of 4.
    losses = np.array([1.0, 3.0, 9.0])
    assert measures.sensitivity(losses, 5.0, False) == pytest.approx(1000 / 12)
    assert measures.sensitivity(np.array([1.0, inf]), 5.0, False) == inf


def test_the_interval_of_a_mean_over_tasks():
    same = [np.array([1.0, 1.0]), np.array([3.0, 3.0])]
    assert measures.mean_interval(same) == (2.0, 2.0, 2.0)
    assert measures.mean_interval([np.array([4.0])]) == (4.0, 4.0, 4.0)
    values = np.array([0.0, 1.0, 2.0])
    # Student's t of two degrees of freedom, 4.303; of equal tasks of four.
    _, low, high = measures.mean_interval([values])
    np.testing.assert_allclose(
        [low, high], 1 + 4.303 / 3**0.5 * np.array([-1, 1]), 1e-3
    )
    _, low, high = measures.mean_interval([values, values])
    np.testing.assert_allclose(high - low, 2 * 2.776 / 6**0.5, 1e-3)
    # A task without noise adds no degrees of freedom.
    _, low, high = measures.mean_interval([values, np.ones(3)])
    np.testing.assert_allclose(high - low, 4.303 / 3**0.5, 1e-3)


def test_gap(lines):
    runs = measures.gather(lines)["t", "adam", "cosine"]
    np.testing.assert_array_equal(measures.gap(runs), [[15, 11], [45, 43]])
    lines[0] = header(is_accuracy=False)
    runs = measures.gather(lines)["t", "adam", "cosine"]
    np.testing.assert_array_equal(measures.gap(runs), [[-15, -11], [-45, -43]])


def test_summary_of_a_method(lines):
    by_name = {r.method: r for r in summaries.summaries(measures.gather(lines))}
    other = by_name["other"]
    # 84 - 79 and 81 - 83 at the tuned rate; both stuck at 10 at the other. The tuned
    # cosine improves from 10 to 81.
    assert other.tuned[0] == pytest.approx(100 * 1.5 / 71)
    assert other.worst == (pytest.approx(-100), -inf)  # one of them failed
    assert other.median == (pytest.approx(100 * (1.5 - 71) / 2 / 71), -inf)
    assert other.tuned_uncapped == other.tuned[0]
    # Of losses 17.5 and, as it began, 90; the first one is 90, too.
    assert other.sensitivity == (pytest.approx(50.0), inf)
    # The cosine's worst base learning rate ends at 49.
    assert by_name["cosine"].worst == (pytest.approx(-100 * 32 / 71),) * 2
    assert (other.missed, other.times, other.time) == (1, 2, inf)
    assert (other.failed, other.stuck, other.runs) == (1, 1, 4)
    # The cosine reaches 80 at 1.0 and 1.0 of the run, the other's median is inf.
    assert by_name["cosine"].score == 1.0 and other.score == 0.0
    assert by_name["cosine"].tuned == (0.0, 0.0, 0.0)


def test_the_quick_plan_is_a_part_of_the_standard_plan():
    quick, standard = plans.PLANS["quick"], plans.PLANS["standard"]
    for field in ("tasks", "optimizers", "methods", "base_rates"):
        assert set(getattr(quick, field)) <= set(getattr(standard, field))


def test_families():
    families = {
        "schedule": ("cosine", "linear", "step_50_75"),
        "control": ("constant_averaged", "cosine_averaged"),
        "peer": ("prodigy", "prodigy_cosine", "dog_averaged", "dowg_averaged"),
        "rule": ("trend",),
        "learner": ("cosine+bandit",),
        "ablation": ("cosine+random", "constant"),
        "autotune": ("autotune",),
    }
    found = {
        family: tuple(map(summaries.family, names))
        for family, names in families.items()
    }
    assert found == {f: (f,) * len(names) for f, names in families.items()}
