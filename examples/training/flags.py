"""One frozen dataclass of hyperparameters, exposed as command-line flags."""

import argparse
import dataclasses
import math
import sys
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from methods import optimizers, peers, registry

DTYPES = ("float32", "bfloat16")
CLIP_NORM = "largest global norm of the gradients, which are clipped to it"

# Flags that say where a run happens and not what it computes: a run may be resumed
# with other values of these.
PLACE = ("workdir", "overwrite", "data_dir", "coordinator", "process_id", "processes")
# The least that a flag may be, where a script has it.
LEAST = {
    "epochs": 1,
    "batch_size": 1,
    "validations": 1,
    "steps_per_dispatch": 1,
    "train_size": 1,
    "checkpoint_steps": 1,
    "width": 1,
    "heads": 1,
    "layers": 1,
    "history": 1,
    "horizon": 1,
    "seed": 0,
    "vocabulary": 4,
    "length": 3,
}


def flag(default: Any, help: str, choices: Sequence[str] | None = None) -> Any:
    """A dataclass field that is also a command-line flag."""
    return dataclasses.field(
        default=default, metadata={"help": help, "choices": choices}
    )


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """What every script has; a script's own ``Config`` adds its model and task."""

    method: str = flag("cosine", "how the learning rate is set", registry.OFFERED)
    optimizer: str = flag("adam", "base optimizer", tuple(optimizers.OPTIMIZERS))
    learning_rate: float | None = flag(
        None, "base learning rate; by default 0.01, or the method's own"
    )
    clip_norm: float | None = flag(None, CLIP_NORM)
    epochs: int = flag(50, "passes over the training split")
    batch_size: int = flag(64, "examples a step, over all devices together")
    validations: int = flag(1, "validations in an epoch, evenly spaced")
    seed: int = flag(0, "of weights, order of the data, augmentation and dropout")
    dtype: str = flag("float32", "of the computation; parameters are float32", DTYPES)
    data_dir: str | None = flag(
        None, "prepared data; default $OPTAX_ADAPTIVE_DATA or ~/tensorflow_datasets"
    )
    train_size: int | None = flag(None, "use only so many training examples")
    smoke: bool = flag(False, "seconds on tiny data, through the same code")
    steps_per_dispatch: int = flag(16, "training steps in one call to the device")
    workdir: str | None = flag(
        None, "logs, plot and checkpoints; a run found there is resumed exactly"
    )
    overwrite: bool = flag(False, "discard the run that workdir holds")
    checkpoint_steps: int | None = flag(
        None, "steps between checkpoints, besides one at each validation"
    )
    coordinator: str | None = flag(
        None, "host:port of process 0 of a multi-process run, or auto on a cluster"
    )
    process_id: int | None = flag(None, "of this process, from 0")
    processes: int | None = flag(None, "how many processes there are")


Config = TypeVar("Config", bound=RunConfig)


def parse(
    config_type: type[Config],
    smoke: Mapping[str, Any],
    description: str | None,
    args: Sequence[str] | None = None,
) -> Config:
    """Reads the flags of a script.

    Args:
      config_type: The script's frozen dataclass.
      smoke: The defaults that ``--smoke`` replaces; explicit flags still win.
      description: The script's docstring, shown by ``--help``.
      args: Instead of ``sys.argv[1:]``.

    Returns:
      The configuration.
    """
    args = sys.argv[1:] if args is None else args
    parser = argparse.ArgumentParser(
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    hints = typing.get_type_hints(config_type)
    for field in dataclasses.fields(config_type):
        default = smoke.get(field.name) if "--smoke" in args else None
        default = field.default if default is None else default
        options: dict[str, Any] = {"default": default}
        options["help"] = field.metadata["help"]
        if field.metadata["choices"]:
            options["help"] += ": " + ", ".join(field.metadata["choices"])
        if default is not None:
            options["help"] += f" ({default})"
        if hints[field.name] is bool:
            options["action"] = argparse.BooleanOptionalAction
        else:
            options["type"] = _plain(hints[field.name])
            options["choices"] = field.metadata["choices"]
            options["metavar"] = field.name.upper()
        parser.add_argument(_option(field.name), **options)
    config = config_type(**vars(parser.parse_args(args)))
    for name in ("learning_rate", "clip_norm"):
        value = getattr(config, name)
        if value is not None and not 0 < value < math.inf:
            parser.error(f"{_option(name)} must be above 0 and finite, not {value}")
    for name in ("dropout", "word_dropout"):
        if not 0 <= getattr(config, name, 0.0) < 1:
            parser.error(f"{_option(name)} must be at least 0 and below 1")
    if not 0 < getattr(config, "masked", 1.0) <= 1:
        parser.error("--masked must be above 0 and at most 1")
    for name, least in LEAST.items():
        value = getattr(config, name, None)
        if value is not None and value < least:
            parser.error(f"{_option(name)} must be at least {least}")
    if getattr(config, "width", 1) % getattr(config, "heads", 1):
        parser.error("--width must be a multiple of --heads")
    is_given = any(arg.partition("=")[0] == "--optimizer" for arg in args)
    if is_given and config.method in peers.OWN_OPTIMIZER:
        parser.error(
            f"--method {config.method} is an optimizer itself; leave --optimizer out"
        )
    return config


def identity(config: RunConfig) -> dict[str, Any]:
    """The part of a configuration that decides what a run computes."""
    values = dataclasses.asdict(config)
    return {name: value for name, value in values.items() if name not in PLACE}


def _option(name: str) -> str:
    """The command-line flag of a field."""
    return "--" + name.replace("_", "-")


def _plain(hint: Any) -> Any:
    """Turns ``int | None`` into ``int``."""
    if isinstance(hint, types.UnionType):
        return next(t for t in typing.get_args(hint) if t is not type(None))
    return hint
