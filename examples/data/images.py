"""Image data sets as uint8 arrays: scikit-learn's digits, or TFDS's by name."""

import numpy as np

from data import augment, prepared
from data.dataset import Arrays, Dataset, split

CIFAR = ("cifar10", "cifar100", "fashion_mnist", "digits")
MNIST = ("mnist", "fashion_mnist", "digits")
AUGMENT = ("none", "crop_flip")


def load(
    name: str,
    data_dir: str | None = None,
    augmentation: str = "none",
    rgb: bool = False,
    train_size: int | None = None,
) -> Dataset:
    """Loads images and labels.

    A tenth of the training images, drawn with a fixed seed, becomes the validation
    split. Digits, which come without a test split, give a fifth to it first.

    Args:
      name: A TFDS data set, or ``"digits"``: 1,797 scans of 8x8, enlarged to 32x32.
      data_dir: Where TFDS prepared it.
      augmentation: One of ``AUGMENT``.
      rgb: Repeat a grey channel three times, and pad to 32x32.
      train_size: Use so many of the training images; None for all.

    Returns:
      A data set whose batches hold ``image`` (B, H, W, C) uint8 and ``label`` (B,)
      int32; ``info`` has ``classes``, ``shape``, and ``mean`` and ``std`` by channel
      in units of 255.
    """
    if name == "digits" and augmentation == "crop_flip":
        raise SystemExit(
            "--augment crop_flip mirrors images, and a digit in a mirror is another "
            "sign or none; give --dataset digits with --augment none"
        )
    if name == "digits":
        images, labels = _digits()
        source = "scikit-learn load_digits, 8x8 enlarged to 32x32"
        train, test = _split(images, labels, 0.2)
    else:
        splits, source = prepared.open_prepared(name, data_dir, "digits")
        train = prepared.decode_images(splits["train"])
        test = prepared.decode_images(splits["test"])
    train, validation = _split(*train, 0.1)
    if rgb:
        train, validation, test = (
            (_to_rgb(images), labels) for images, labels in (train, validation, test)
        )
    pixels = train[0][:10_000] / np.float32(255)
    mean = tuple(float(m) for m in pixels.mean((0, 1, 2)))
    std = tuple(float(s) for s in pixels.std((0, 1, 2)))
    data = Dataset(
        source=source,
        train=_arrays(*train, count=train_size),
        validation=_arrays(*validation),
        test=_arrays(*test),
        info={
            "classes": int(train[1].max()) + 1,
            "shape": train[0].shape[1:],
            "mean": mean,
            "std": std,
        },
    )
    return data if augmentation == "none" else data._replace(augment=augment.crop_flip)


def _digits() -> tuple[np.ndarray, np.ndarray]:
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    images = (images.reshape(-1, 8, 8, 1) * (255 / 16)).astype(np.uint8)
    images = images.repeat(4, axis=1).repeat(4, axis=2)
    return images, labels.astype(np.int32)


def _split(images: np.ndarray, labels: np.ndarray, share: float):
    """Sets a share aside."""
    first, second = split(len(labels), share)
    return (images[first], labels[first]), (images[second], labels[second])


def _to_rgb(images: np.ndarray) -> np.ndarray:
    pad = (32 - images.shape[1]) // 2
    images = np.pad(images, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    return images if images.shape[-1] == 3 else images.repeat(3, axis=-1)


def _arrays(images: np.ndarray, labels: np.ndarray, count: int | None = None) -> Arrays:
    return {"image": images[:count], "label": labels[:count]}
