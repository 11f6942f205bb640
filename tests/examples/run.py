"""Runs a script in a process of its own, as a user does."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def start(script, *args, devices=1):
    """Starts a script; its output and errors come through one pipe, unbuffered."""
    env = os.environ | {
        "JAX_NUM_CPU_DEVICES": str(devices),
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": str(ROOT),
        "PYTHONUNBUFFERED": "1",
        "COLUMNS": "200",
    }
    env.pop("OPTAX_ADAPTIVE_DATA", None)
    return subprocess.Popen(
        [sys.executable, str(ROOT / "examples" / script), *map(str, args)],
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def run(script, *args, devices=1):
    """Runs a script to its end, which must be a good one; returns its output."""
    process = start(script, *args, devices=devices)
    output, _ = process.communicate()
    assert process.returncode == 0, output
    return output


def fail(script, *args):
    """Runs a script that must fail without a traceback; returns its output."""
    process = start(script, *args)
    output, _ = process.communicate()
    assert process.returncode != 0, output
    assert "Traceback" not in output
    return output


def losses(workdir, event="train"):
    """Step and loss of every event of a kind."""
    from training import logs

    events = logs.read(Path(workdir) / "metrics.jsonl")
    return [(e["step"], float(e["loss"])) for e in events if e["event"] == event]
