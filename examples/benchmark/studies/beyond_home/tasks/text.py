"""Text: the source files of installed packages, as characters, in three parts."""

import importlib.util
from functools import cache
from pathlib import Path

import numpy as np

from benchmark.tasks.task import Split

CHARACTERS = 96  # newline and the printable ones of ASCII; others count as a space
HELD_OUT = 0.05  # of the text, for validation, and as much for test
MOST = 3_000_000  # characters of a package


def as_numbers(text: str) -> np.ndarray:
    """A number in [0, 96) for each character, int32."""
    codes = np.frombuffer(text.encode("ascii", "replace"), np.uint8).astype(np.int32)
    is_printable = (codes >= 32) & (codes < 127)
    return np.where(codes == 10, 0, np.where(is_printable, codes - 31, 1)).astype(
        np.int32
    )


def files(package: str) -> list[Path]:
    """Its source files without tests, in an order drawn with a fixed seed.

    Raises:
      SystemExit: If there is no such package.
    """
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise SystemExit(
            f"the text of {package} needs that package: pip install "
            "optax-adaptive[examples], or leave out the tasks that read it"
        )
    root = Path(spec.origin).parent
    found = [
        path for path in root.rglob("*.py") if "test" not in str(path.relative_to(root))
    ]
    found.sort(key=lambda path: path.relative_to(root).as_posix())
    order = np.random.RandomState(0).permutation(len(found))
    return [found[i] for i in order]


@cache
def read(package: str, most: int = MOST) -> dict[Split, np.ndarray]:
    """Three parts of ``most`` characters in all; no file is in two of them."""
    parts: dict[Split, list[str]] = {"validation": [], "test": [], "train": []}
    sizes = {name: HELD_OUT * most for name in parts} | {"train": most}
    names = iter(parts)
    name, size, total = next(names), 0, 0
    for path in files(package):
        text = path.read_text(encoding="utf-8")
        parts[name].append(text)
        size, total = size + len(text), total + len(text)
        if total >= most:
            break
        if size >= sizes[name]:
            name, size = next(names), 0
    return {name: as_numbers("\n".join(texts)) for name, texts in parts.items()}
