"""Augmentation of batches of images, in NumPy, (B, H, W, C) uint8."""

import numpy as np

from data.dataset import Arrays


def crop_flip(arrays: Arrays, rng: np.random.Generator, pad: int = 4) -> Arrays:
    """Pads, crops at random to the old size and flips half of the images."""
    images = arrays["image"]
    batch, height, width, _ = images.shape
    padded = np.pad(images, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    rows, columns = rng.integers(0, 2 * pad + 1, (2, batch))
    flips = rng.random(batch) < 0.5
    out = np.empty_like(images)
    for i in range(batch):
        crop = padded[i, rows[i] : rows[i] + height, columns[i] : columns[i] + width]
        out[i] = crop[:, ::-1] if flips[i] else crop
    return {**arrays, "image": out}


def random_resized_crop(
    arrays: Arrays, rng: np.random.Generator, size: int = 224
) -> Arrays:
    """A crop of 8% to 100% of the area, resized to ``size``, flipped half the time."""
    images = arrays["image"]
    batch, height, width, channels = images.shape
    out = np.empty((batch, size, size, channels), images.dtype)
    area = rng.uniform(0.08, 1, batch) * height * width
    ratio = np.exp(rng.uniform(np.log(3 / 4), np.log(4 / 3), batch))
    widths = np.minimum(np.sqrt(area * ratio), width)
    heights = np.minimum(np.sqrt(area / ratio), height)
    lefts = rng.random(batch) * (width - widths)
    tops = rng.random(batch) * (height - heights)
    flips = rng.random(batch) < 0.5
    for i in range(batch):
        box = (lefts[i], tops[i], lefts[i] + widths[i], tops[i] + heights[i])
        crop = _resize(images[i], size, box)
        out[i] = crop[:, ::-1] if flips[i] else crop
    return {**arrays, "image": out}


def center_crop(arrays: Arrays, rng: np.random.Generator, size: int = 224) -> Arrays:
    """Resizes so that a centre crop of ``size`` is 7/8 of the side, and crops."""
    images = arrays["image"]
    _, height, width, _ = images.shape
    side = min(height, width) * 7 / 8  # 224 of 256
    left, top = (width - side) / 2, (height - side) / 2
    box = (left, top, left + side, top + side)
    return {**arrays, "image": np.stack([_resize(i, size, box) for i in images])}


def _resize(image: np.ndarray, size: int, box: tuple) -> np.ndarray:
    from PIL import Image

    bilinear = Image.Resampling.BILINEAR
    return np.asarray(Image.fromarray(image).resize((size, size), bilinear, box=box))
