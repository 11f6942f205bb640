"""Data parallelism: every device holds the state and a slice of each batch."""

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec


def connect(
    coordinator: str | None, process_id: int | None, processes: int | None
) -> None:
    """Joins the processes of a run; to be called before anything touches a device.

    Args:
      coordinator: ``host:port`` of process 0; ``"auto"`` to let the cluster's own
        environment (Slurm, Open MPI, Cloud TPU, …) say; None for one process.
      process_id: Of this process, from 0; not needed with ``"auto"``.
      processes: How many there are; not needed with ``"auto"``.
    """
    if coordinator is None:
        if process_id is not None or processes is not None:
            raise SystemExit("--process-id and --processes need --coordinator")
        return
    if coordinator == "auto":
        jax.distributed.initialize()
    elif process_id is None or processes is None:
        raise SystemExit("--coordinator needs --process-id and --processes as well")
    else:
        jax.distributed.initialize(coordinator, processes, process_id)


def make_mesh(batch_size: int) -> Mesh:
    """One axis over all devices of all processes."""
    count = jax.device_count()
    if batch_size % count:
        raise SystemExit(
            f"--batch-size {batch_size} can't be split evenly over {count} devices"
        )
    return Mesh(np.asarray(jax.devices()), ("data",))


def replicated(mesh: Mesh) -> NamedSharding:
    """For the training state."""
    return NamedSharding(mesh, PartitionSpec())


def batched(mesh: Mesh) -> NamedSharding:
    """For a chunk of batches, (K, B, ...): B is split over the devices."""
    return NamedSharding(mesh, PartitionSpec(None, "data"))


def local_rows(batch_size: int) -> slice:
    """The rows of each global batch that this process loads."""
    size = batch_size // jax.process_count()
    return slice(jax.process_index() * size, (jax.process_index() + 1) * size)
