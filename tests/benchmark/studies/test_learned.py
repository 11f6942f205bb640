"""What is said of the policy, on numbers worked out by hand."""

from benchmark import measures
from benchmark.studies.learned import report
from benchmark.studies.learned.run import AROUND, FAR, NEAR

FACTS = {"steps": 100, "steps_per_epoch": 10, "is_accuracy": True, "unit": "%"}
PEAKS = [float(f"{rate:.3g}") for rate in NEAR]


def results(finals, optimizer="adam"):
    lines = [{"header": {"config": FACTS | {"task": "digits"}}}]
    for (method, rate), tests in finals.items():
        for seed, test in enumerate(tests):
            named = {"task": "digits", "optimizer": optimizer, "method": method}
            metrics = {"test": test, "validation": [0.0, test], "initial": 10.0}
            run = {"base_rate": rate, "seed": seed, "failed": None}
            lines.append(named | run | metrics)
    return measures.gather(lines)


COSINES = {
    ("cosine", PEAKS[0]): [90.0, 91.0],
    ("cosine", PEAKS[1]): [50.0, 50.0],
    ("cosine", PEAKS[2]): [5.0, 5.0],  # counts as 10, where it began
}


def test_around_a_cosine():
    around = {
        (AROUND[0], PEAKS[0]): [92.0, 90.0],
        (AROUND[0], PEAKS[1]): [80.0, 80.0],
        (AROUND[0], PEAKS[2]): [70.0, 50.0],
    }
    verdict = report.verdict_around(results(COSINES | around), AROUND[0])
    name, _, task, everything = verdict.splitlines()
    assert name == "`cosine+learned`:"
    # Of 90.5 - 50 and 90.5 - 10.
    assert task == (
        "- digits: +0.50 ± 19.06 points at 2e-03, 1 of 2 at or above; recovered 0.74 "
        "of what a peak of 2e-02 costs, 0.62 of what a peak of 2e-01 costs"
    )
    # 0.5 of 90.5 - 10; and Student's t of one degree of freedom, 12.7.
    assert everything.startswith("- all: +0.62% (-23.06 to +24.30)")
    assert everything.endswith("1 of 2 runs at or above it")
    assert report.verdict_around(results({}), AROUND[0]) == ""


def test_alone_and_over_its_ablations():
    alone = {
        ("learned", 1e-3): [92.0, 91.0],
        ("learned", 1e-1): [90.0, 95.0],
        ("learned_blind", 1e-1): [80.0, 83.0],
    }
    found = results(COSINES | alone)
    table = report.table_alone(found, ["digits"], ["learned"], [1e-3, 1e-1])
    assert table.splitlines()[2] == (
        "| digits | 90.5 at 2e-03 | learned | +1.00 | +2.00 |"
    )
    # A rate that has not been run.
    table = report.table_alone(found, ["digits"], ["learned"], [1e-3, 1.0])
    assert table.splitlines()[2].endswith("| learned | +1.00 | – |")
    assert "bounds 0 of the 6 runs" in report.blocks(found)["alone"]
    # In the mean of the two rates 1 and 2 points, by seed.
    row = report.table_by_task(found).splitlines()[2]
    assert row.startswith("| `learned` | +1.50 ± 6.35 points | – |")
    # At the rate that both have, 10 and 12.
    rows = report.table_paired(found).splitlines()
    assert "| `learned_blind` | +11.00 ± 12.71 points | – | – |" in rows


def test_a_bounded_cosine_is_shown_without_the_bound_as_well():
    around = {(name, peak): [90.0, 90.0] for name in AROUND for peak in PEAKS}
    table = report.table_around(results(COSINES | around))
    assert "| digits | cosine | 90.5 | 50 | 10 [5] |" in table.splitlines()


def test_around_other_optimizers():
    far = [float(f"{rate:.3g}") for rate in FAR]
    # autotune has a rate more, which does not count.
    finals = {("learned", rate): [91.0, 92.0] for rate in far}
    finals |= {("autotune", rate): [90.0, 91.0] for rate in (*far, 1.0)}
    finals["learned", far[0]], finals["autotune", 1.0] = [88.0, 89.0], [0.0, 0.0]
    found = results(COSINES | finals, "lion")
    rows = report.table_with_others(found).splitlines()
    row = next(row for row in rows if row.startswith("| digits, lion |"))
    # Over 90.5, the tuned cosine: -2, 1 and 1.
    assert row.split(" | ")[1] == "+0.00 (-2.00)"
    assert row.split(" | ")[5] == "+0.00 (+0.00)"
