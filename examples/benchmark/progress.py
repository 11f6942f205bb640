"""Progress and the time left: a bar on a terminal, and lines elsewhere."""

import time
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar


class Progress:
    """Of jobs that take unequally long, of which more may come up.

    Example:
      >>> with Progress() as progress:
      ...     progress.expect([60.0, 180.0])
      ...     progress.tick(60.0, "the short one")
      1 of 2, 0 min left: the short one
    """

    def __init__(self):
        """Its time begins."""
        columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        self.bar = Bar(*columns, TextColumn("{task.description}"))
        self.bar.disable = not self.bar.console.is_terminal
        self.task = self.bar.add_task("")
        self.start = time.perf_counter()
        self.done, self.count, self.total, self.left = 0.0, 0, 0, 0.0

    def __enter__(self) -> "Progress":
        """Begins to show."""
        self.bar.start()
        return self

    def __exit__(self, *_: Any) -> None:
        """Ends the bar."""
        self.bar.stop()

    def expect(self, sizes: list[float]) -> None:
        """Takes notice of all that are left, by how long each takes beside others."""
        self.left, self.total = sum(sizes), self.count + len(sizes)

    def tick(self, size: float, text: str) -> None:
        """Takes notice of a job of that size that has ended."""
        self.done, self.left = self.done + size, self.left - size
        self.count += 1
        minutes = (time.perf_counter() - self.start) * self.left / self.done / 60
        text = f"{minutes:.0f} min left: {text}"
        self.bar.update(
            self.task, completed=self.count, total=self.total, description=text
        )
        if self.bar.disable:
            print(f"{self.count} of {self.total}, {text}", flush=True)
