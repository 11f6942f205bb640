"""Writes the pictures of docs/ small: a checkout holds them."""

import io
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from PIL import Image


def save(figure: Figure, path: Path, **options: Any) -> None:
    """A PNG of 256 colours: a third of the bytes, and lines look the same."""
    buffer = io.BytesIO()
    figure.savefig(buffer, **options)
    image = Image.open(buffer).convert("RGB")
    image.quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)
