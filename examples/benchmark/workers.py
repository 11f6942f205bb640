"""Jobs in processes that run side by side, each on one core."""

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent import futures
from typing import Any

import jax

# Read when JAX is first used, in the processes as well.
os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false")


def results(
    run: Callable[[Any], Any], jobs: Iterable[Any], processes: int | None
) -> Iterator[Any]:
    """What ``run`` makes of each job, in the order in which they end.

    Args:
      run: A function of a module, which a process can import.
      jobs: What it takes, one by one.
      processes: How many at a time; of 1 it is this one. By default one a core; on an
        accelerator one, which takes all of it.

    Yields:
      What it returns.
    """
    if processes is None:
        processes = (os.cpu_count() or 1) if jax.default_backend() == "cpu" else 1
    if processes == 1:
        yield from map(run, jobs)
        return
    context = multiprocessing.get_context("spawn")  # JAX does not survive a fork
    with futures.ProcessPoolExecutor(processes, context, _end_with_parent) as pool:
        try:
            running = [pool.submit(run, job) for job in jobs]
            for future in futures.as_completed(running):
                yield future.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _end_with_parent() -> None:
    """Ends this process when the one that began it does, as by SIGTERM.

    Else it would go on with the jobs that are queued, for nobody.
    """
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
