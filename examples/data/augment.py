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
