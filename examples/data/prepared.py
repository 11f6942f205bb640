"""Data sets prepared by TensorFlow Datasets, read without TensorFlow or network."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np


def default_dir() -> Path:
    """$OPTAX_ADAPTIVE_DATA, or TFDS's own default."""
    chosen = os.environ.get("OPTAX_ADAPTIVE_DATA", "~/tensorflow_datasets")
    return Path(chosen).expanduser()


def open_prepared(name: str, data_dir: str | None, offline: str) -> tuple[Any, str]:
    """Opens a prepared data set.

    Args:
      name: As TFDS spells it.
      data_dir: Where it was prepared; None for the default.
      offline: The name of an embedded data set that needs no preparation.

    Returns:
      A mapping from split to random-access source, with images left encoded, and a
      line for the log.

    Raises:
      SystemExit: At once, if it isn't there: nothing is downloaded or replaced here.
    """
    root = Path(data_dir).expanduser() if data_dir else default_dir()
    advice = (
        f"prepare it once, with network access:\n"
        f"  python examples/prepare_data.py {name} --data-dir {root}\n"
        f"or name the folder that holds it with --data-dir, or use the embedded data:\n"
        f"  --dataset {offline}"
    )
    # TFDS itself, asked for what isn't there, tries to download: minutes offline.
    if not any((root / name).glob("**/dataset_info.json")):
        raise SystemExit(f"data set {name!r} isn't in {root}; {advice}")
    try:
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise SystemExit(
            f"{name!r} needs the tfds extra ({error}): pip install optax-adaptive[tfds]"
        ) from error
    if name == "ld2011_2014":
        import data.ld2011_2014  # noqa: F401  (registers the builder)
    skip = {"image": tfds.decode.SkipDecoding()}
    try:
        builder = tfds.builder(name, data_dir=root)
        features: Any = builder.info.features
        decoders: Any = skip if "image" in features else None
        sources = builder.as_data_source(decoders=decoders)
        version = f"{builder.info.full_name} in {root}"
    except Exception as error:
        raise SystemExit(
            f"data set {name!r} in {root} can't be read ({error}); {advice}"
        ) from error
    return sources, version


def decode_images(source: Any) -> tuple[np.ndarray, np.ndarray]:
    """Decodes every image of a split, on all cores.

    Returns:
      Images (N, H, W, C) uint8 and labels (N,) int32.
    """
    import io

    from PIL import Image

    def decode(example):
        image = np.asarray(Image.open(io.BytesIO(example["image"])))
        return image if image.ndim == 3 else image[..., None]

    examples = read_all(source)
    with ThreadPoolExecutor() as pool:
        images = np.stack(list(pool.map(decode, examples, chunksize=512)))
    return images, np.array([e["label"] for e in examples], np.int32)


def read_all(source: Any, block: int = 4096) -> list[dict[str, Any]]:
    """Every example of a split, in order."""
    read: Callable = source.__getitems__
    examples: list[dict[str, Any]] = []
    for start in range(0, len(source), block):
        examples += read(list(range(start, min(start + block, len(source)))))
    return examples
