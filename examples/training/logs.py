"""What a run leaves to read: JSONL, TensorBoard, and a progress bar."""

import json
import math
import time
from pathlib import Path
from typing import Any

import jax
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from training.checkpoints import METRICS, Workdir, write_whole

console = Console(highlight=False)


class Log:
    """Appends events to ``metrics.jsonl`` and TensorBoard; process 0 alone writes.

    Events that a killed run logged after its last checkpoint are cut off when it
    resumes, so that the file reads as if the run had never stopped.
    """

    def __init__(
        self, workdir: Workdir | None, steps: int, resumed_at: int, decides: bool
    ):
        """Opens the files; without a workdir the console is all there is."""
        self._decides = decides
        self.path: Path | None = None
        self._board = None
        self._start = time.perf_counter()
        self._rate: float | None = None
        self.is_main = jax.process_index() == 0
        if workdir is not None and self.is_main:
            from tensorboardX import SummaryWriter

            self.path = workdir.path / METRICS
            events = read(self.path)
            kept = [
                event
                for event in events
                if event["step"] <= resumed_at and event["event"] not in ("fit", "test")
            ]
            kept_lines = "".join(json.dumps(event) + "\n" for event in kept)
            write_whole(self.path, kept_lines)
            board = str(workdir.path / "tensorboard")
            self._board = SummaryWriter(board, purge_step=resumed_at + 1)
            rates = [e["learning_rate"] for e in kept if "learning_rate" in e]
            self._rate = rates[-1] if rates else None
        self._bar = Progress(
            TextColumn("epoch {task.fields[epoch]}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[numbers]}"),
            console=console,
            disable=not (self.is_main and console.is_terminal),
        )
        self._bar.start()
        self._task = self._bar.add_task(
            "", total=steps, completed=resumed_at, epoch=0, numbers=""
        )

    def write(self, event: str, step: int, **values: Any) -> None:
        """Writes one event: a line, and a TensorBoard scalar for each number."""
        seconds = round(time.perf_counter() - self._start, 3)
        line = {"event": event, "step": step, "seconds": seconds, **values}
        line = {key: _plain(value) for key, value in line.items()}
        if self.path is None:
            return
        with open(self.path, "a") as file:
            file.write(json.dumps(line) + "\n")
        if self._board is not None and event in ("train", "validation", "test"):
            for key, value in values.items():
                self._board.add_scalar(f"{event}/{key}", value, step)

    def train(self, epoch: int, step: int, values: dict[str, Any]) -> None:
        """Logs a chunk of training: means, and the rate of its last step."""
        rate = float(values["learning_rate"])
        if self._decides and self._rate is not None and not _same(rate, self._rate):
            self.write("decision", step, old=self._rate, new=rate)
        self._rate = rate
        self.write("train", step, **values)
        shown = "  ".join(f"{key} {float(value):.4g}" for key, value in values.items())
        self._bar.update(self._task, completed=step, epoch=epoch, numbers=shown)

    def say(self, text: str) -> None:
        """Prints a line above the progress bar."""
        if self.is_main:
            console.print(text)

    def close(self) -> None:
        """Ends the progress bar and flushes TensorBoard."""
        self._bar.stop()
        if self._board is not None:
            self._board.close()


def read(path: Path) -> list[dict[str, Any]]:
    """The events of a run; a last line cut short by a kill is left out."""
    events = []
    for line in path.read_text().splitlines() if path.exists() else ():
        try:
            events.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return events


def _same(a: float, b: float) -> bool:
    return math.isclose(a, b, rel_tol=1e-5) or (math.isnan(a) and math.isnan(b))


def _plain(value: Any) -> Any:
    """A JSON value; a number that isn't finite becomes a string."""
    if isinstance(value, str | int | bool | None | dict | list):
        return value
    value = float(value)
    return value if math.isfinite(value) else str(value)
