"""The runner: one training for all rates, nothing twice, failures are results."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from benchmark import plans, records, run, tasks, training
from methods import peers, registry, rules
from methods.controls import CONTROLS
from methods.learned_ablations import LEARNED_ABLATIONS
from methods.method import Method
from methods.schedules import SCHEDULES
from optax_adaptive import controllers
from tests.helpers.slow import slow_but

RUNS = ((1e-7, 0), (1e-3, 0), (1e-1, 1), (10.0, 0))
HERE = Path(".")
# Those that search differ by settings alone.
QUICK = {*registry.NAMES} - {*rules.AUTOTUNE, *rules.LEARNED} | {"autotune"}


@pytest.fixture
def plan(toy, monkeypatch):
    monkeypatch.setitem(tasks.TASKS, "toy", lambda data_dir: toy)
    run.make_task.cache_clear()
    return plans.Plan(("toy",), ("sgd",), ("fixed", "cosine"), (1e-2, 1e-1), seeds=2)


@pytest.mark.parametrize("name", slow_but(QUICK, [*registry.NAMES, *LEARNED_ABLATIONS]))
def test_every_method_takes_a_traced_rate(name, toy):
    train = jax.vmap(training.make_training(toy, "adam", name))
    trace = jax.eval_shape(train, jnp.ones(2), jnp.zeros(2, jnp.int32))
    curves = (2, training.CHECKPOINTS)
    assert trace.validation.shape == trace.learning_rate.shape == curves
    assert trace.test.shape == (2,)


@pytest.mark.parametrize("name", ["cosine", "prodigy", "trend", "schedule_free_adamw"])
def test_vmapped_equals_one_at_a_time(name, toy):
    train = training.make_training(toy, "adam", name)
    together, alone = run.take(train, RUNS, True), run.take(train, RUNS, False)
    for row, one in zip(together, alone, strict=True):
        assert row["failed"] is one["failed"] is None
        for field in ("test", "validation", "late_loss_std"):
            np.testing.assert_allclose(row[field], one[field], rtol=2e-3)


def test_record_of_a_run(toy):
    train = training.make_training(toy, "sgd", "fixed")
    (row,) = run.take(train, [(0.0, 0)], is_vmapped=False)
    # At rate 0 nothing moves: each split shows its own offset on the same squares.
    np.testing.assert_allclose(row["initial"], row["validation"], rtol=1e-3)
    np.testing.assert_allclose(row["validation"][-1], row["train"] + 1, rtol=1e-3)
    np.testing.assert_allclose(row["test"], row["train"] + 2, rtol=1e-3)
    assert len(row["validation"]) == len(row["learning_rate"]) == training.CHECKPOINTS
    assert row["failed"] is None and row["late_loss_std"] > 0


@pytest.mark.parametrize("is_accuracy", [True, False])
def test_a_row_keeps_what_it_is_asked_for(is_accuracy):
    curve = np.array([3.0, np.nan, 5.0, 2.0, 4.0] + 35 * [4.0])
    rates = np.full(training.CHECKPOINTS, 0.1)
    one = np.float64(1.0)
    found = {"rollbacks": one}
    trace = training.Trace(one, curve, rates, one, one, one, np.True_, found)
    row = training.as_row(trace, is_accuracy, ("best", "rollbacks"))
    assert row.keys() == {"failed", "initial", "validation", "test"} | {
        *("best", "rollbacks")
    }
    assert row["validation"] == [4.0]
    expected = [3, 3, 5, 5, 5] if is_accuracy else [3, 3, 3, 2, 2]
    assert row["best"][:5] == expected and len(row["best"]) == 40
    whole = training.as_row(trace, is_accuracy, ("validation", "mean_rate"))
    assert whole["validation"][:5] == [3.0, None, 5.0, 2.0, 4.0]
    assert whole["mean_rate"] == pytest.approx(0.1)


def test_what_is_done_is_skipped(plan, tmp_path):
    output = tmp_path / "deep" / "results.jsonl"
    run.execute(plan._replace(seeds=1), output, HERE, jobs=1)
    first = output.read_text().splitlines()
    assert len(first) == 2 * (1 + 2)  # a header and two rates, for two methods
    run.execute(plan, output, HERE, jobs=1)
    lines = output.read_text().splitlines()
    assert lines[: len(first)] == first
    assert len(records.done(output)) == 8 == len(lines) - 4
    run.execute(plan, output, HERE, jobs=1)
    assert output.read_text().splitlines() == lines


def test_header_says_what_made_the_rows(plan, tmp_path):
    output = tmp_path / "results.jsonl"
    run.execute(plan, output, HERE, jobs=1)
    header = json.loads(output.read_text().splitlines()[0])["header"]
    assert {"jax", "optax", "optax_adaptive", "device", "commit"} <= set(header)
    assert header["config"]["method"] == "fixed"
    assert header["config"]["unit"] == "squares"
    assert header["config"]["runs"] == [[r, s] for r in (0.01, 0.1) for s in (0, 1)]


def test_a_line_cut_off_is_run_again(plan, tmp_path):
    output = tmp_path / "results.jsonl"
    run.execute(plan, output, HERE, jobs=1)
    output.write_text(output.read_text()[:-40])
    assert len(records.done(output)) == 7
    run.execute(plan, output, HERE, jobs=1)
    assert len(records.done(output)) == 8


def test_failures_are_results(plan, toy, tmp_path):
    output = tmp_path / "results.jsonl"
    explodes = plan._replace(methods=("fixed",), base_rates=(0.1, 1e30))
    run.execute(explodes, output, HERE, jobs=1)
    rows = [line for line in records.read(output) if "header" not in line]
    failed = {row["base_rate"]: row["failed"] for row in rows}
    assert failed == {0.1: None, 1e30: "not finite"}
    # JSON proper, and no second attempt.
    json.loads(output.read_text().splitlines()[2], parse_constant=pytest.fail)
    assert run.missing(explodes, records.done(output), HERE) == []


def test_an_exception_is_no_result(plan, toy, monkeypatch, tmp_path):
    output = tmp_path / "results.jsonl"

    def update_fn(updates, state, params=None, **extra_args):
        raise KeyError("broken")

    def build(plan):
        return Method(
            optax.GradientTransformationExtraArgs(lambda params: (), update_fn),
            lambda state, step: plan.learning_rate,
        )

    monkeypatch.setitem(peers.PEERS, "broken", (0.1, build))
    with pytest.raises(KeyError, match="broken"):
        run.execute(plan._replace(methods=("broken",)), output, HERE, jobs=1)
    assert not records.rows(output)


def test_a_name_that_is_not_known_is_no_result(plan, tmp_path):
    output = tmp_path / "results.jsonl"
    with pytest.raises(ValueError, match="no method 'cosin'"):
        run.execute(plan._replace(methods=("cosin",)), output, HERE, jobs=1)
    assert not output.exists()


def test_methods_see_the_same_start_and_batches(toy):
    rows = [
        run.take(training.make_training(toy, "sgd", name), [(1e-9, 3)], False)[0]
        for name in ("fixed", "constant")
    ]
    # Of the training losses of the last tenth, to five digits.
    assert rows[0]["late_loss_std"] == rows[1]["late_loss_std"] > 0
    assert rows[0]["initial"] == rows[1]["initial"]


def test_the_standard_list_has_every_method():
    standard = plans.PLANS["standard"]
    ours = (controllers.REGISTRY, rules.AUTOTUNE, rules.LEARNED)
    every = set().union(*ours, SCHEDULES, CONTROLS, peers.PEERS)
    assert every - {*registry.EXPERIMENT} <= set(standard.methods)
    assert len(standard.tasks) >= 6 and standard.seeds >= 3
    assert min(standard.base_rates) == 1e-7 and max(standard.base_rates) == 10.0
    # Methods without a rate of their own are meant to be run at 1, and all get it.
    assert len(standard.base_rates) == 9
    assert all(1.0 in standard.rates(name, "adam") for name in standard.methods)


def test_a_run_says_that_the_tasks_are_development_tasks(plan, tmp_path, capsys):
    for _ in range(2):  # the second time there is nothing to run
        run.execute(plan, tmp_path / "results.jsonl", HERE, jobs=1)
        assert capsys.readouterr().out.startswith("Development tasks: they helped")


def test_what_makes_a_method_is_told_the_seed_of_the_run(toy):
    told = []

    def build(rate, steps, seed):
        jax.debug.callback(lambda seed: told.append(int(seed)), seed)
        return registry.build("bandit", "adam", rate, steps, 4, seed=seed)

    train = jax.jit(training.training_of(toy, build, autotunes=False))
    for seed in (3, 5):
        jax.block_until_ready(train(jnp.float32(1e-2), jnp.int32(seed)))
    jax.effects_barrier()
    assert told == [3, 5]
