r"""VGG-16 with batch norm on CIFAR (Simonyan & Zisserman, ICLR 2015).

  python examples/vgg16_cifar.py --method trend
  python examples/vgg16_cifar.py --width 16 --steps-per-dispatch 1   # for a CPU
  python examples/vgg16_cifar.py --dataset digits --augment none --width 8 \
      --epochs 5 --steps-per-dispatch 1   # embedded, no download

Expect about 54% test accuracy on CIFAR-10 after 8 epochs at width 16 on 10,000 of its
images, in a quarter of an hour on one busy CPU core; at full width and on all images,
published runs reach 92 to 94%. On a CPU keep to one step a dispatch: XLA compiles a
convolution inside a loop for CPU to code that is 30 times slower.
"""

import dataclasses

import jax
import jax.numpy as jnp
from flax import nnx

from data import images
from data.dataset import Dataset
from training import devices, flags, loop
from training.flags import flag


@dataclasses.dataclass(frozen=True)
class Config(flags.RunConfig):
    """Hyperparameters."""

    dataset: str = flag("cifar10", "what to learn", images.CIFAR)
    augment: str = flag("crop_flip", "of the training images", images.AUGMENT)
    width: int = flag(64, "channels of the first stage; the last has 8 times as many")
    dropout: float = flag(0.5, "share of features dropped before the classifier")


SMOKE = {
    "dataset": "digits",
    "augment": "none",
    "epochs": 1,
    "width": 4,
    "train_size": 256,
    "steps_per_dispatch": 1,
}

# Convolutions of each stage, and their channels in units of the width.
STAGES = ((2, 1), (2, 2), (3, 4), (3, 8), (3, 8))


class VGG16(nnx.Module):
    """Thirteen convolutions in five stages; 14.7M parameters in them at width 64.

    The classifier is the one layer that is usual on CIFAR: after five poolings a
    32x32 image is a single point, and the paper's 4096-wide layers have no use.
    """

    def __init__(self, info: dict, config: Config, rngs: nnx.Rngs):
        """Makes fresh parameters for images of ``info["shape"]``."""
        self.mean, self.std, self.dtype = info["mean"], info["std"], config.dtype
        convs, norms, inputs = [], [], 3
        for count, multiple in STAGES:
            for _ in range(count):
                outputs = config.width * multiple
                convs.append(
                    nnx.Conv(inputs, outputs, (3, 3), dtype=config.dtype, rngs=rngs)
                )
                norms.append(
                    nnx.BatchNorm(outputs, momentum=0.9, dtype=config.dtype, rngs=rngs)
                )
                inputs = outputs
        self.convs, self.norms = nnx.List(convs), nnx.List(norms)
        self.dropout = nnx.Dropout(config.dropout)
        self.head = nnx.Linear(inputs, info["classes"], rngs=rngs)

    def __call__(self, images: jax.Array, rngs: nnx.Rngs) -> jax.Array:
        """Maps images (B, H, W, 3) uint8 to logits (B, classes)."""
        x = (images / 255.0 - jnp.array(self.mean)) / jnp.array(self.std)
        x = x.astype(self.dtype)
        layers = iter(zip(self.convs, self.norms, strict=True))
        for count, _ in STAGES:
            for _ in range(count):
                conv, norm = next(layers)
                x = nnx.relu(norm(conv(x)))
            x = nnx.max_pool(x, (2, 2), (2, 2))  # halves H and W
        x = self.dropout(x.mean((1, 2)), rngs=rngs)  # (B, 8*width)
        return self.head(x.astype(jnp.float32))


def per_example(model: VGG16, batch: loop.Batch, rngs: nnx.Rngs) -> loop.Values:
    """Loss and accuracy of each example, (B,) each."""
    return loop.classified(model(batch["image"], rngs), batch["label"])


def load(config: Config) -> Dataset:
    """The data of a run."""
    return images.load(
        config.dataset,
        config.data_dir,
        config.augment,
        rgb=True,
        train_size=config.train_size,
    )


def train(config: Config, data: Dataset) -> loop.Means:
    """Makes a model, and trains it."""
    model = loop.create(lambda rngs: VGG16(data.info, config, rngs), config.seed)
    return loop.fit(config, data, model, per_example, metric="accuracy")


def main(args: list[str] | None = None) -> loop.Means:
    """Trains with the flags of the command line."""
    config = flags.parse(Config, SMOKE, __doc__, args)
    devices.connect(config.coordinator, config.process_id, config.processes)
    return train(config, load(config))


if __name__ == "__main__":
    main()
