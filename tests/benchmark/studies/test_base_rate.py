"""autotune and the peers against the cosine, from all base rates."""

import numpy as np

from benchmark import measures, plans
from benchmark.studies.base_rate import report, run
from methods import rules


def test_autotune_is_compared_with_the_cosine_of_its_own_file(report_lines):
    report_lines += [
        line | {"method": name}
        for name in list(rules.AUTOTUNE)[1:]
        for line in report_lines
        if "method" in line and line["method"] == "autotune"
    ]
    finer = [line for line in report_lines if line.get("seed") != 1]  # fewer seeds
    for line in finer[1:]:
        line["test"] -= 40.0
    every = report.with_autotune(
        [measures.gather(finer), measures.gather(report_lines)]
    )
    assert {runs.test.shape for runs in every.values()} == {(3, 1)}
    (row,) = report.autotune(every).rows
    assert row == ["t, %", "adam", "40.00 ± 0 (1.0e-03 *)", *4 * ["+2.00"]]
    partial = [line for line in finer if line.get("method") != "autotune"]
    every = report.with_autotune(
        [measures.gather(partial), measures.gather(report_lines)]
    )
    assert {runs.test.shape for runs in every.values()} == {(3, 2)}


def test_peers_are_compared_on_their_own_seeds(report_lines):
    peer = [report_lines[0]]
    for line in report_lines[1:]:
        if line["method"] == "trend" and line["seed"] == 0:
            failed = {"test": 20.0} if line["base_rate"] == 1e-1 else {}
            peer.append(line | {"method": "prodigy"} | failed)
    own = [line for line in report_lines if line.get("method") != "trend"]
    both = report.with_peers(measures.gather(own), measures.gather(peer))
    assert {runs.test.shape for runs in both.values()} == {(3, 1)}
    assert report.peers(both).rows == [
        ["`autotune`", "+2.9", "+2.9", "+2.0 / +2.0"],  # 2 of 80 - 10
        ["`prodigy`", "-85.7", "-1.4", "-60.0 / -1.0"],
    ]
    assert report.with_peers(measures.gather(own), {}) == {}
    for line in peer[1:]:
        line["test"] = {20.0: -3.0}.get(line["test"], line["test"])
    both = report.with_peers(measures.gather(own), measures.gather(peer))
    row = report.peers(both).rows[1]  # 10 is where it began, so that it counts as that
    assert row == ["`prodigy`", "-100.0 [-118.6]", "-1.4", "-70.0 [-83.0] / -1.0"]


def test_every_optimizer_of_the_robustness_plans_has_a_grid_for_the_cosine():
    for name in ("robustness", "optimizers"):
        plan = run.PLANS[name]
        assert plan.base_rates == plans.DECADES
        for optimizer in plan.optimizers:
            rates = plan.rates("cosine", optimizer)
            assert len(rates) == 8
            np.testing.assert_allclose(np.diff(np.log10(rates)), 1 / 3, atol=0.01)
