"""A variant of autotune is run like a registered method."""

import json

import numpy as np

from benchmark import records, run, tasks
from benchmark.studies.ablation.run import KEEPS, builder


def test_the_default_variant_is_autotune(toy, tmp_path, monkeypatch):
    monkeypatch.setitem(tasks.TASKS, "toy", lambda data_dir: toy)
    run.make_task.cache_clear()
    found = []
    for label, build in (
        ("autotune", None),
        ("autotune: default", builder("autotune", "default", "adam")),
    ):
        group = run.Group("toy", "adam", label, ((1e-3, 0),), tmp_path, KEEPS)
        header, row = json.loads(records.as_json(run.run_group(group, build)))
        assert row.pop("method") == header["header"]["config"]["method"] == label
        found.append(row)
    registered, variant = found
    assert variant.keys() == registered.keys() >= {*KEEPS}
    np.testing.assert_allclose(variant["test"], registered["test"], rtol=1e-4)
    assert variant["found_scale"] == registered["found_scale"]
