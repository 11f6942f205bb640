"""Batches out of arrays in memory: shuffle, augment, put on the devices, ahead of time.

Decoding happens once, into uint8 arrays; a batch is then a gather and a crop in NumPy,
which is faster than any loader with worker processes at this image size. A batch
depends on (seed, epoch, step) alone, so a run resumes anywhere without the state of
an iterator, and gives the same batches however many devices share it. (Over several
processes the examples are the same too, but each draws its own augmentation.)
"""

import queue
import threading
import time
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from data.dataset import Arrays, Dataset, Transform, size
from training import devices


def train_chunks(
    data: Dataset,
    seed: int,
    epoch: int,
    start: int,
    batch_size: int,
    chunk: int,
    stop: int | None = None,
) -> Iterator[Arrays]:
    """The rest of an epoch, or a part of it, a chunk of batches at a time.

    Args:
      data: Its ``train`` is read.
      seed: Of order and augmentation.
      epoch: From 0.
      start: First step of this epoch that is wanted.
      batch_size: B, over all processes.
      chunk: K, the most batches in a chunk.
      stop: The step of this epoch to stop before; None for its end.

    Yields:
      Arrays of shape (K, B of this process, ...). The last chunk may be shorter;
      examples that fill no batch are left out, others in each epoch.
    """
    order = np.random.default_rng([seed, epoch]).permutation(size(data.train))
    steps = len(order) // batch_size if stop is None else stop
    rows = devices.local_rows(batch_size)
    for first in range(start, steps, chunk):
        out: Arrays = {}
        count = min(chunk, steps - first)
        for k, step in enumerate(range(first, first + count)):
            index = order[step * batch_size : (step + 1) * batch_size][rows]
            rng = np.random.default_rng([seed, epoch, step, rows.start])
            batch = {name: array[index] for name, array in data.train.items()}
            for name, array in data.augment(batch, rng).items():
                if k == 0:
                    out[name] = np.empty((count, *array.shape), array.dtype)
                out[name][k] = array
        yield out


def eval_batches(
    split: Arrays, prepare: Transform, batch_size: int
) -> Iterator[Arrays]:
    """All examples in order, as chunks of one batch; padding has ``weight`` 0."""
    rows, rng = devices.local_rows(batch_size), np.random.default_rng(0)
    for first in range(0, size(split), batch_size):
        index = np.arange(first, first + batch_size)[rows]
        # Padded with the last example, whose weight is then 0.
        last = size(split) - 1
        batch = {n: a[np.minimum(index, last)] for n, a in split.items()}
        batch = prepare(batch, rng)
        batch["weight"] = (index <= last).astype(np.float32)
        yield {name: array[None] for name, array in batch.items()}


class Prefetch:
    """Runs an iterator of chunks in a thread and puts them on the devices.

    Attributes:
      waited: Seconds that the consumer has spent waiting for a chunk.
    """

    def __init__(self, chunks: Iterator[Arrays], mesh: Mesh, depth: int = 2):
        """Starts at once; ``depth`` chunks are kept ready."""
        self.waited = 0.0
        self._queue: queue.Queue = queue.Queue(depth)
        self._stopped = threading.Event()
        self._sharding = devices.batched(mesh)
        self._thread = threading.Thread(target=self._run, args=(chunks,), daemon=True)
        self._thread.start()

    def _run(self, chunks: Iterator[Arrays]) -> None:
        try:
            for chunk in chunks:
                put = jax.make_array_from_process_local_data
                self._put({n: put(self._sharding, a) for n, a in chunk.items()})
                if self._stopped.is_set():
                    return
            self._put(None)
        except Exception as error:  # Raised again where the chunk is asked for.
            self._put(error)

    def _put(self, item: Any) -> None:
        while not self._stopped.is_set():
            try:
                return self._queue.put(item, timeout=0.1)
            except queue.Full:
                continue

    def __iter__(self) -> Iterator[dict[str, jax.Array]]:
        """Yields chunks on the devices, (K, B, ...)."""
        try:
            while True:
                start = time.perf_counter()
                item = self._queue.get()
                self.waited += time.perf_counter() - start
                if isinstance(item, Exception):
                    raise item
                if item is None:
                    return
                yield item
        finally:
            self._stopped.set()
            self._thread.join()
