"""The quickstart runs, prints its table and writes its picture."""

import subprocess
import sys
from pathlib import Path

import pytest

QUICKSTART = Path(__file__).parents[2] / "examples" / "quickstart.py"


@pytest.mark.slow
def test_quickstart(tmp_path):
    picture = tmp_path / "picture.png"
    flags = ["--steps", "20", "--seeds", "1", "--output", str(picture)]
    run = subprocess.run(
        [sys.executable, str(QUICKSTART), *flags],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert run.returncode == 0, run.stderr
    assert "Test accuracy in %" in run.stdout
    for rate in ("1e-06", "0.001", "1 (1000x too large)"):
        assert rate in run.stdout
    assert picture.read_bytes().startswith(b"\x89PNG")
