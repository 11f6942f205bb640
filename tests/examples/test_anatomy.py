"""The picture of docs/how_autotune_works.md is drawn of a run that trains."""

import pytest

import anatomy
import optax_adaptive


@pytest.mark.usefixtures("standard_promotion")
def test_the_run_has_all_phases_and_learns():
    log = anatomy.train(steps=400, seed=0)
    names = [optax_adaptive.in_words(row)["phase_name"] for row in log]
    expected = ["calibrate", "range test", "trial", "warm-up", "maintain"]
    assert list(dict.fromkeys(names)) == expected
    assert log[-1]["eval_loss"] < 0.5 * log[0]["eval_loss"]
    assert [row["step"] for row in log] == list(range(400))


def test_it_writes_the_picture(tmp_path, monkeypatch, capsys):
    picture = tmp_path / "anatomy.png"
    row = {"phase": 0, "cause": 1, "lr_scale": 1e-3, "loss": 2.0, "eval_loss": 2.0}
    rows = [{"step": step} | row for step in range(3)]
    monkeypatch.setattr(anatomy, "train", lambda steps, seed: rows)
    monkeypatch.setattr("sys.argv", ["anatomy.py", "--output", str(picture)])
    anatomy.main()
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert "calibrate, tried by the search" in capsys.readouterr().out
