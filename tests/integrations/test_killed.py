"""Killed in the search, in a rollback or after it, a run goes on bitwise."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.helpers import killed_run

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
SEARCH, ROLLBACK, HOLD = 43, 210, 303


def start(method, folder, *last):
    folder.mkdir(exist_ok=True)
    return subprocess.Popen(
        [sys.executable, killed_run.__file__, method, folder, *map(str, last)],
        env=os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def lines(process, code):
    """Step, phase, and whether it is under way to the copy, of each step."""
    output, errors = process.communicate()
    assert process.returncode == code, errors
    return [tuple(map(int, line.split())) for line in output.splitlines()]


def final(folder):
    path = killed_run.newest(folder)
    assert int(path.stem) == killed_run.STEPS
    with np.load(path) as arrays:
        return {name: arrays[name] for name in arrays.files}


@pytest.mark.parametrize("method", ["autotune", "learned", "actor_critic"])
def test_killed_run_goes_on_bitwise(method, tmp_path):
    whole = lines(start(method, tmp_path / "whole"), 0)
    killed = tmp_path / "killed"
    dead = [
        lines(start(method, killed, last), -signal.SIGKILL)
        for last in (SEARCH, ROLLBACK, HOLD)
    ]
    seen = lines(start(method, killed), 0)
    assert [run[0][0] for run in (*dead, seen)] == [0, 40, 210, 300]
    assert [run[-1][0] for run in dead] == [SEARCH, ROLLBACK, HOLD]
    searches = method != "actor_critic"
    assert (dead[0][-1][1] < 3) == searches and dead[2][-1][1] == 3
    # Between the two updates of the return: the last one began it, the next ends it.
    restored = {step for step, _, is_restored in whole if is_restored}
    assert {ROLLBACK, ROLLBACK + 1} <= restored and ROLLBACK - 1 not in restored
    one, other = final(tmp_path / "whole"), final(killed)
    assert one.keys() == other.keys()
    for name, leaf in one.items():
        np.testing.assert_array_equal(other[name], leaf, strict=True)
