"""A multilayer perceptron, 784-128-64-10 with dropout 0.5, on MNIST.

  python examples/mlp_mnist.py --method trend
  python examples/mlp_mnist.py --dataset digits --method trend --learning-rate 0.003

The second takes embedded data, scikit-learn's digits: expect 99% test accuracy, in
half a minute.
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

    dataset: str = flag("mnist", "what to learn", images.MNIST)
    width: int = flag(128, "of the first hidden layer; the second has half of it")
    dropout: float = flag(0.5, "share of hidden units dropped")


SMOKE = {"dataset": "digits", "epochs": 2, "width": 32}


class MLP(nnx.Module):
    """Two hidden layers."""

    def __init__(self, info: dict, config: Config, rngs: nnx.Rngs):
        """Makes fresh parameters for images of ``info["shape"]``."""
        height, width, channels = info["shape"]
        sizes = (height * width * channels, config.width, config.width // 2)
        self.mean, self.std = info["mean"], info["std"]
        self.hidden = nnx.List(
            nnx.Linear(m, n, dtype=config.dtype, rngs=rngs)
            for m, n in zip(sizes, sizes[1:], strict=False)
        )
        self.dropout = nnx.Dropout(config.dropout)
        self.head = nnx.Linear(sizes[-1], info["classes"], rngs=rngs)

    def __call__(self, images: jax.Array, rngs: nnx.Rngs) -> jax.Array:
        """Maps images (B, H, W, C) uint8 to logits (B, classes)."""
        x = (images / 255.0 - jnp.array(self.mean)) / jnp.array(self.std)
        x = x.reshape(len(x), -1)  # (B, H*W*C)
        for layer in self.hidden:
            x = self.dropout(nnx.relu(layer(x)), rngs=rngs)  # (B, width), (B, width/2)
        return self.head(x.astype(jnp.float32))


def per_example(model: MLP, batch: loop.Batch, rngs: nnx.Rngs) -> loop.Values:
    """Loss and accuracy of each example, (B,) each."""
    return loop.classified(model(batch["image"], rngs), batch["label"])


def load(config: Config) -> Dataset:
    """The data of a run."""
    return images.load(config.dataset, config.data_dir, train_size=config.train_size)


def train(config: Config, data: Dataset) -> loop.Means:
    """Makes a model, and trains it."""
    model = loop.create(lambda rngs: MLP(data.info, config, rngs), config.seed)
    return loop.fit(config, data, model, per_example, metric="accuracy")


def main(args: list[str] | None = None) -> loop.Means:
    """Trains with the flags of the command line."""
    config = flags.parse(Config, SMOKE, __doc__, args)
    devices.connect(config.coordinator, config.process_id, config.processes)
    return train(config, load(config))


if __name__ == "__main__":
    main()
