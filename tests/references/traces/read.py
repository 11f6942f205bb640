"""Reads the traces that record.py wrote."""

import json
import pathlib
from typing import NamedTuple

import numpy as np


class Trace(NamedTuple):
    """What one scheduler did on one stream of metrics."""

    metrics: np.ndarray  # shape=(steps,), dtype=float32
    settings: dict
    scales: np.ndarray  # shape=(steps,), dtype=float64: after each step


def read(library: str) -> dict[str, list[Trace]]:
    """Traces of ``"optax"``, ``"torch"`` or ``"transformers"``, by their settings."""
    path = pathlib.Path(__file__).with_name(f"{library}.json")
    recorded = json.loads(path.read_text())
    by_settings = {}
    for trace in recorded["traces"]:
        by_settings.setdefault(json.dumps(trace["settings"]), []).append(
            Trace(
                metrics=np.float32(recorded["streams"][trace["stream"]]),
                settings=trace["settings"],
                scales=np.repeat(*zip(*trace["scales"], strict=True)),
            )
        )
    return by_settings
