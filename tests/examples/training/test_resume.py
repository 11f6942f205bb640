"""A killed run goes on exactly; a foreign or damaged folder is left alone."""

import shutil

import pytest

import mlp_mnist
from tests.examples.run import losses, run, start

pytestmark = pytest.mark.slow
FLAGS = ("--smoke", "--epochs", "6", "--method", "trend")
FLAGS += ("--steps-per-dispatch", "4", "--checkpoint-steps", "8")
RUN = ("mlp_mnist.py", *FLAGS)


def refusal(*args):
    """What the script says as it exits: for that it needs no process of its own."""
    with pytest.raises(SystemExit) as exit_info:
        mlp_mnist.main([*FLAGS, *map(str, args)])
    return str(exit_info.value)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that nobody interrupted."""
    workdir = tmp_path_factory.mktemp("runs") / "whole"
    run(*RUN, "--workdir", workdir)
    return workdir


def test_killed_run_resumes_exactly(whole, tmp_path):
    process = start(*RUN, "--workdir", tmp_path)
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("epoch 3"):
            process.kill()  # While the checkpoint of this epoch is being written.
            break
    process.communicate()
    assert len(losses(tmp_path)) < len(losses(whole))
    output = run(*RUN, "--workdir", tmp_path)
    assert "step 0 of" not in output
    for event in ("train", "validation", "test"):
        assert losses(tmp_path, event) == losses(whole, event)


def test_finished_run_is_not_trained_again(whole):
    before = losses(whole)
    assert "step 120 of 120" in run(*RUN, "--workdir", whole)
    assert losses(whole) == before
    assert len(losses(whole, "test")) == 1


def test_another_configuration_is_refused(whole):
    before = {p: p.stat().st_mtime_ns for p in whole.rglob("*")}
    output = refusal("--workdir", whole, "--seed", "1")
    assert "seed: 0 there, 1 here" in output and "--overwrite" in output
    assert {p: p.stat().st_mtime_ns for p in whole.rglob("*")} == before


def test_overwrite_starts_anew(whole, tmp_path):
    workdir = tmp_path / "copy"
    shutil.copytree(whole, workdir)
    output = run(
        *RUN, "--workdir", workdir, "--overwrite", "--epochs", "1", "--seed", "1"
    )
    assert "step 0 of 20" in output


@pytest.mark.parametrize("overwrite", [(), ("--overwrite",)])
def test_folder_of_something_else_is_refused(overwrite, tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    output = refusal("--workdir", tmp_path, *overwrite)
    assert "choose another" in output
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


def test_damaged_checkpoint_is_an_error_and_untouched(whole, tmp_path):
    workdir = tmp_path / "copy"
    shutil.copytree(whole, workdir)
    (newest,) = (workdir / "checkpoints").glob("120")
    for path in newest.rglob("*"):
        if path.is_file() and path.stat().st_size > 200:
            path.write_bytes(path.read_bytes()[:100])
    before = {p: p.read_bytes() for p in newest.rglob("*") if p.is_file()}
    log = (workdir / "metrics.jsonl").read_bytes()
    output = refusal("--workdir", workdir)
    assert "damaged or of another model" in output and str(newest) in output
    assert {p: p.read_bytes() for p in newest.rglob("*") if p.is_file()} == before
    assert (workdir / "metrics.jsonl").read_bytes() == log


def test_checkpoint_of_another_optimizer_is_an_error(whole, tmp_path):
    workdir = tmp_path / "copy"
    shutil.copytree(whole, workdir)
    config = workdir / "config.json"
    config.write_text(config.read_text().replace('"trend"', '"cosine"'))
    before = {p: p.read_bytes() for p in workdir.rglob("*") if p.is_file()}
    output = refusal("--method", "cosine", "--workdir", workdir)
    assert "damaged or of another model" in output
    assert {p: p.read_bytes() for p in workdir.rglob("*") if p.is_file()} == before
