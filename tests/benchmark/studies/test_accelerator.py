"""Logs of the example scripts become rows of the report."""

import json

import pytest

from benchmark import measures, records
from benchmark.studies.accelerator import run as accelerator


def test_a_log_becomes_a_row():
    events = [{"event": "start", "config": {"epochs": 2}, "versions": {"jax": "1"}}]
    for step in (1, 2, 3, 4):
        train = {"loss": 4.0 / step, "accuracy": step / 10, "learning_rate": 0.1 * step}
        events.append({"event": "train", "step": step, **train})
        if step % 2 == 0:
            validation = {"loss": 1.0, "accuracy": step / 8}
            events.append({"event": "validation", "step": step, **validation})
    test = {"event": "test", "step": 4, "seconds": 9.0, "loss": 1.0, "accuracy": 0.45}
    lines = accelerator.as_lines("mlp", "cosine", 0.1, 0, [*events, test])
    header, row = map(json.loads, map(records.as_json, lines))
    assert header["header"]["config"]["steps_per_epoch"] == 2
    assert row["failed"] is None and row["validation"] == [25.0, 50.0]
    assert row["learning_rate"] == pytest.approx([0.2, 0.4])
    assert (row["initial"], row["train"], row["test"]) == (25.0, 35.0, 45.0)
    runs = measures.gather(lines)["mlp", "adam", "cosine"]
    assert runs.facts.steps == 4 and measures.final_test(runs) == 45.0
    blown_up = accelerator.as_lines(
        "mlp", "cosine", 0.1, 0, [*events, test | {"loss": "nan"}]
    )
    assert blown_up[1]["failed"] == "not finite"


def test_a_script_that_fails_is_a_failed_run():
    for events in ([], [{"event": "start", "config": {}, "versions": {}}]):
        (row,) = accelerator.as_lines("mlp", "cosine", 0.1, 2, events)
        assert row["failed"] and row["seed"] == 2 and "test" not in row
