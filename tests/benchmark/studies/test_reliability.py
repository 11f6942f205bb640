"""Faults are where they say, a run knows them, and the table counts what it should."""

import jax.numpy as jnp
import numpy as np
import optax

import optax_adaptive
from benchmark import records
from benchmark.studies.reliability import (
    faults,
    raised_rate,
    report,
    run,
    unusual_noise,
)
from optax_adaptive import controllers


def test_patterns():
    found = faults.patterns(2000)
    assert np.flatnonzero(found["20 at 300"]).tolist() == list(range(300, 320))
    assert np.flatnonzero(found["2 every 100"])[:4].tolist() == [98, 99, 198, 199]
    assert 150 < found["10% at random"].sum() < 250
    assert "1000 at 1000" not in found  # nothing would be left after it


def test_a_fault_is_applied_where_it_is():
    factors = jnp.array(faults.KINDS["NaN in the loss"])
    loss, grads = faults.applied(True, factors, jnp.float32(2.0), jnp.ones(2))
    assert np.isnan(loss) and grads.tolist() == [1.0, 1.0]
    loss, grads = faults.applied(False, factors, jnp.float32(2.0), jnp.ones(2))
    assert loss == 2.0 and grads.tolist() == [1.0, 1.0]


def test_a_run_survives_what_apply_if_finite_does():
    steps = 60
    bad = jnp.arange(steps) == 30
    ends = {}
    for name in ("bare", "apply_if_finite"):
        tx = optax.adam(1e-2)
        tx = optax.apply_if_finite(tx, 10) if name == "apply_if_finite" else tx
        ends[name] = run.make_run(tx, steps)(0, bad, jnp.array([np.nan, np.nan]))[0]
    assert ends["apply_if_finite"] > 60 and ends["bare"] < 20


def test_the_table_counts_red_cells():
    rows = [
        {"method": name, "fault": f"{f.kind}, {f.name}", "seed": 0}
        | {"accuracy": 90, "lost": 0.0, "ratio": 1.0, "spread": 0.0}
        for name in run.METHODS
        for f in faults.faults(run.STEPS)
    ]
    assert "Red (bold): 0 of" in report.table(rows)
    rows[-1] |= {"lost": 5.0}
    rows[-2] |= {"ratio": 0.1}
    assert "Red (bold): 2 of" in report.table(rows)
    assert "In 0 of them" in report.table(rows)
    rows[-2] |= {"spread": np.log(11.0)}
    assert "In 1 of them" in report.table(rows)
    assert "**+5.0**" in report.table(rows)


def test_the_factor_is_raised_in_the_state():
    rule = optax_adaptive.scale_by_controller(controllers.constant())
    tx = optax_adaptive.with_averaging(optax.chain(optax.sgd(1.0), rule))
    state = raised_rate.raised(tx.init(jnp.ones(2)), jnp.float32(10.0))
    assert float(optax_adaptive.lr_scale(state)) == 10.0


def test_what_counts_as_lost():
    row = {"task": "lstm", "half": 2.0, "end": 2.1}
    assert raised_rate.is_lost(row) and not raised_rate.is_lost(row | {"end": 2.03})
    row = {"task": "digits", "half": 90.0, "end": 88.0}
    assert raised_rate.is_lost(row) and raised_rate.is_lost(row | {"end": None})


def test_a_stream_that_rises_rolls_back_and_one_that_does_not_does_not():
    values = 1 + 0.1 * np.random.default_rng(0).normal(size=400)
    assert unusual_noise.follow(values) == {"rollbacks": 0, "backoffs": 0, "waiting": 0}
    found = unusual_noise.follow(values + 1.0 * (np.arange(400) >= 200))
    assert found["rollbacks"] == 1 and 0 < found["waiting"] < 0.3


def test_unusual_noise_is_run_once_and_shown(tmp_path, monkeypatch):
    monkeypatch.setattr(unusual_noise, "STEPS", 200)
    monkeypatch.setattr(unusual_noise, "VALUES", 60)
    for name in ("STREAMS", "TRAININGS"):
        few = list(getattr(unusual_noise, name).items())[-1:]
        monkeypatch.setattr(unusual_noise, name, dict(few))
    output = tmp_path / "rows.jsonl"
    unusual_noise.measure(output, [0])
    before = output.read_text()
    unusual_noise.measure(output, [0])
    assert output.read_text() == before
    lines = unusual_noise.table(records.read(output)).splitlines()
    of_methods = [line for line in lines if "in the order of the classes" in line]
    assert len(of_methods) == len(unusual_noise.METHODS)
    assert "| rising by half" in lines[2] and lines[2].endswith("| 0 | 0 | 0% |")
