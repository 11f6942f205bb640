"""The minimal loops run as a user runs them, print what they learn, and learn it."""

import re

import pytest

from tests.examples.run import ROOT, run

# The least test accuracy in percent that a script prints last.
LEAST = {
    "batch_norm": 95.0,
    "eqx": 95.0,
    "fine_tune": 90.0,
    "linen": 95.0,
    "nnx": 95.0,
    "svi": 92.0,
}
FOLDER = ROOT / "examples" / "minimal"


def test_every_script_is_here_and_short():
    scripts = {path.stem: path.read_text() for path in FOLDER.glob("*.py")}
    assert set(scripts) == set(LEAST)
    assert all(text.count("\n") <= 80 for text in scripts.values())


@pytest.mark.slow
@pytest.mark.parametrize("name", LEAST)
def test_it_learns(name):
    output = run(f"minimal/{name}.py")
    assert "Warning" not in output
    before = [float(found) for found in re.findall(r"before: (.*)%", output)]
    (after,) = (float(found) for found in re.findall(r"after: (.*)%", output))
    assert after >= LEAST[name]
    assert all(accuracy < 50.0 for accuracy in before)
    scales = [float(found) for found in re.findall(r"lr_scale (\S+)", output)]
    assert scales and all(scale > 0.0 for scale in scales)
