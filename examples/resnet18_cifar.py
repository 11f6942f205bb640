r"""ResNet-18 with a 3x3 stem for 32x32 images, on CIFAR (He et al., CVPR 2016).

  python examples/resnet18_cifar.py --method trend
  python examples/resnet18_cifar.py --width 16 --steps-per-dispatch 1   # for a CPU
  python examples/resnet18_cifar.py --dataset digits --augment none --width 8 \
      --epochs 5 --steps-per-dispatch 1   # embedded, no download

Expect about 80% test accuracy on CIFAR-10 after 8 epochs at width 16, in an hour on
one busy CPU core; at full width, published runs reach 93 to 95%. On a CPU keep to one
step a dispatch: XLA compiles a convolution inside a loop for CPU to code that is 30
times slower.
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


SMOKE = {
    "dataset": "digits",
    "augment": "none",
    "epochs": 1,
    "width": 4,
    "train_size": 256,
    "steps_per_dispatch": 1,
}


class Block(nnx.Module):
    """Two convolutions and a shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int, dtype, rngs: nnx.Rngs):
        """A shortcut that changes shape is a 1x1 convolution."""
        shared = {"use_bias": False, "dtype": dtype, "rngs": rngs}
        norm = {"momentum": 0.9, "dtype": dtype, "rngs": rngs}
        self.conv1 = nnx.Conv(inputs, outputs, (3, 3), stride, **shared)
        self.norm1 = nnx.BatchNorm(outputs, **norm)
        self.conv2 = nnx.Conv(outputs, outputs, (3, 3), **shared)
        self.norm2 = nnx.BatchNorm(outputs, **norm)
        shortcut = []  # the identity
        if stride != 1 or inputs != outputs:
            shortcut = [
                nnx.Conv(inputs, outputs, (1, 1), stride, **shared),
                nnx.BatchNorm(outputs, **norm),
            ]
        self.shortcut = nnx.Sequential(*shortcut)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps (B, H, W, C) to (B, H/stride, W/stride, outputs)."""
        y = nnx.relu(self.norm1(self.conv1(x)))
        return nnx.relu(self.norm2(self.conv2(y)) + self.shortcut(x))


class ResNet18(nnx.Module):
    """Four stages of two blocks; 11.17M parameters at width 64."""

    def __init__(self, info: dict, config: Config, rngs: nnx.Rngs):
        """Makes fresh parameters for images of ``info["shape"]``."""
        self.mean, self.std, self.dtype = info["mean"], info["std"], config.dtype
        width = config.width
        self.stem = nnx.Conv(
            3, width, (3, 3), use_bias=False, dtype=config.dtype, rngs=rngs
        )
        self.norm = nnx.BatchNorm(width, momentum=0.9, dtype=config.dtype, rngs=rngs)
        blocks, inputs = [], width
        for stage in range(4):
            for block in range(2):
                stride = 2 if stage > 0 and block == 0 else 1
                outputs = width * 2**stage
                blocks.append(Block(inputs, outputs, stride, config.dtype, rngs))
                inputs = outputs
        self.blocks = nnx.List(blocks)
        self.head = nnx.Linear(inputs, info["classes"], rngs=rngs)

    def __call__(self, images: jax.Array) -> jax.Array:
        """Maps images (B, H, W, 3) uint8 to logits (B, classes)."""
        x = (images / 255.0 - jnp.array(self.mean)) / jnp.array(self.std)
        x = nnx.relu(self.norm(self.stem(x.astype(self.dtype))))  # (B, H, W, width)
        for block in self.blocks:
            x = block(x)
        x = x.mean((1, 2))  # (B, 8*width)
        return self.head(x.astype(jnp.float32))


def per_example(model: ResNet18, batch: loop.Batch, rngs: nnx.Rngs) -> loop.Values:
    """Loss and accuracy of each example, (B,) each."""
    return loop.classified(model(batch["image"]), batch["label"])


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
    model = loop.create(lambda rngs: ResNet18(data.info, config, rngs), config.seed)
    return loop.fit(config, data, model, per_example, metric="accuracy")


def main(args: list[str] | None = None) -> loop.Means:
    """Trains with the flags of the command line."""
    config = flags.parse(Config, SMOKE, __doc__, args)
    devices.connect(config.coordinator, config.process_id, config.processes)
    return train(config, load(config))


if __name__ == "__main__":
    main()
