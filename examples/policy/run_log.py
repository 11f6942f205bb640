"""The log of a training of a policy or a prior: JSON lines after a header."""

import json
import platform
import shlex
import sys
from pathlib import Path
from typing import Any

import jax
import optax


def header(module: str, arguments: list[str] | None) -> dict[str, Any]:
    """What a run of ``module`` says of itself: its command and what it ran on."""
    versions = {"jax": jax.__version__, "optax": optax.__version__}
    versions |= {"python": platform.python_version()}
    command = shlex.join(["python", "-m", module, *(arguments or sys.argv[1:])])
    return {"command": command, "versions": versions}


def check_same(log: Path, settings: dict[str, Any]) -> None:
    """Ends the program if the run in ``log`` was started with other settings."""
    before = json.loads(log.read_text().splitlines()[0])["header"]["settings"]
    for name, value in settings.items():
        if before.get(name) != value:
            flag = name.replace("_", "-")
            raise SystemExit(
                f"--{flag} is {value}, but {log.parent} holds a run with "
                f"{before.get(name)}: give the same flags to resume it, or take "
                "another --workdir"
            )


def trim(path: Path, generation: int) -> None:
    """Drops lines of generations after the checkpoint: they will be run again."""
    kept = []
    for line in path.read_text().splitlines():
        try:
            if json.loads(line).get("generation", 0) <= generation:
                kept.append(line + "\n")
        except json.JSONDecodeError:  # cut off in writing
            break
    path.write_text("".join(kept))
