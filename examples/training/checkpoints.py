"""The folder of a run: its configuration, Orbax checkpoints, and what is to serve."""

import json
import shutil
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from flax import nnx
from jax.experimental import multihost_utils

from training import flags

CONFIG = "config.json"  # flags.identity of the run
METRICS = "metrics.jsonl"
SERVED = "served"  # an nnx.State of the model, to evaluate or to go on from
OWN = (CONFIG, METRICS, "checkpoints", SERVED, "tensorboard", "run.png")


def read_params(workdir: str) -> dict[str, np.ndarray]:
    """The parameters that another run left to serve, and its batch statistics.

    Args:
      workdir: Of that run.

    Returns:
      Arrays by path, as in ``"encoder/words/embedding"``.

    Raises:
      SystemExit: If there are none.
    """
    folder = Path(workdir).expanduser().absolute() / SERVED
    if not folder.exists():
        raise SystemExit(
            f"{workdir} holds no parameters of a whole run; make them with "
            f"masked_words.py --workdir {workdir}"
        )
    # As NumPy arrays: the devices may be others than those it was saved from.
    with ocp.PyTreeCheckpointer() as checkpointer:
        wanted = jax.tree.map(
            lambda _: ocp.RestoreArgs(restore_type=np.ndarray),
            checkpointer.metadata(folder).item_metadata.tree,
        )
        args = ocp.args.PyTreeRestore(restore_args=wanted)
        leaves = jax.tree.leaves_with_path(checkpointer.restore(folder, args=args))
    # The last key is "value", of each variable.
    return {
        "/".join(entry.key for entry in path[:-1]): np.asarray(leaf)
        for path, leaf in leaves
    }


def write_whole(path: Path, text: str) -> None:
    """Replaces a file, so that a run killed meanwhile leaves the old one."""
    temporary = path.with_name(path.name + ".new")
    temporary.write_text(text)
    temporary.replace(path)


def read_config(workdir: str | Path) -> dict[str, Any]:
    """The flags of a run that decide what it computes."""
    return json.loads((Path(workdir).expanduser() / CONFIG).read_text())


def is_to_introduce(config: flags.RunConfig) -> bool:
    """Whether this process is the first of a run that begins, not of one that resumes.

    It says what a run is to be compared with, which may take a minute to compute.
    """
    is_resumed = (
        config.workdir is not None
        and not config.overwrite
        and (Path(config.workdir).expanduser() / METRICS).exists()
    )
    return jax.process_index() == 0 and not is_resumed


class Workdir:
    """Opens or makes the folder of a run.

    Args:
      config: Of the run; its ``workdir`` is the folder.

    Raises:
      SystemExit: If the folder holds something else: nothing in it is touched.
    """

    def __init__(self, config: flags.RunConfig):
        """Refuses what isn't this run's, before anything is written."""
        assert config.workdir is not None
        self.path = Path(config.workdir).expanduser().absolute()
        wanted = json.loads(json.dumps(flags.identity(config)))
        refusal: BaseException | None = None
        if jax.process_index() == 0:
            try:
                self._claim(wanted, config.overwrite)
            except (SystemExit, Exception) as error:
                refusal = error
        if jax.process_count() > 1:
            # The others would wait for a process that has ended.
            is_refused = np.array(refusal is not None)
            if multihost_utils.broadcast_one_to_all(is_refused) and refusal is None:
                refusal = SystemExit("process 0 refuses the --workdir; it says why")
        if refusal is not None:
            raise refusal
        options = ocp.CheckpointManagerOptions(max_to_keep=2, create=True)
        self._manager = ocp.CheckpointManager(
            self.path / "checkpoints", options=options
        )

    def _claim(self, wanted: dict[str, Any], overwrite: bool) -> None:
        file = self.path / CONFIG
        if not file.exists():
            if self.path.exists() and any(self.path.iterdir()):
                raise SystemExit(
                    f"--workdir {self.path} holds files that aren't of a run of these "
                    "scripts; choose another"
                )
            self.path.mkdir(parents=True, exist_ok=True)
        elif overwrite:
            for name in OWN:
                entry = self.path / name
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink(True)
        else:
            found = read_config(self.path)
            names = sorted({*found, *wanted})
            different = [n for n in names if found.get(n) != wanted.get(n)]
            if different:
                shown = ", ".join(
                    f"{n}: {found.get(n)} there, {wanted.get(n)} here"
                    for n in different
                )
                raise SystemExit(
                    f"--workdir {self.path} holds another run ({shown}); choose "
                    "another folder, or discard that run with --overwrite"
                )
        write_whole(file, json.dumps(wanted, indent=2) + "\n")

    def save(self, step: int, state: Any) -> None:
        """Writes a checkpoint in the background; it counts once it is complete."""
        self._manager.save(step, args=ocp.args.StandardSave(state))

    def restore(self, state: Any) -> Any:
        """Returns the newest checkpoint, or ``state`` where there is none.

        Args:
          state: A state of the right structure, shapes and shardings.

        Raises:
          SystemExit: If the checkpoint is damaged or of another model.
        """
        step = self._manager.latest_step()
        if step is None:
            return state
        target = jax.tree.map(ocp.utils.to_shape_dtype_struct, state)
        try:
            return self._manager.restore(step, args=ocp.args.StandardRestore(target))
        except Exception as error:
            reason = " ".join(str(error).split())[:300]
            raise SystemExit(
                f"the checkpoint {self.path / 'checkpoints' / str(step)} is damaged or "
                f"of another model, and was left as it is ({type(error).__name__}: "
                f"{reason}); choose another --workdir, or discard it with --overwrite"
            ) from error

    def save_served(self, params: Any, statistics: Any) -> Path:
        """Writes what is to serve, at the end of a run; returns where it is."""
        folder = self.path / SERVED
        with ocp.StandardCheckpointer() as checkpointer:
            # A run that was at its end already writes the same again.
            both = nnx.merge_state(params, statistics)
            checkpointer.save(folder, both, force=True)
        return folder

    def close(self) -> None:
        """Waits until the last checkpoint is complete."""
        self._manager.wait_until_finished()
        self._manager.close()
