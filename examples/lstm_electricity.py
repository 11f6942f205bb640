"""An LSTM that forecasts a day of electricity demand, on half-hours or hours.

  python examples/lstm_electricity.py --learning-rate 0.003 --epochs 30   # embedded
  python examples/lstm_electricity.py --dataset ld2011_2014 --history 48 --horizon 24

It first reports the error of repeating the week before, 490 MW on the embedded
series; the forecaster learns what to add to it. Expect about 390 MW from the first.
"""

import dataclasses

import jax
import jax.numpy as jnp
from flax import nnx

from data import electricity
from data.dataset import Dataset
from training import checkpoints, devices, flags, loop
from training.flags import flag


@dataclasses.dataclass(frozen=True)
class Config(flags.RunConfig):
    """Hyperparameters."""

    dataset: str = flag("taylor", "what to forecast", electricity.NAMES)
    history: int = flag(96, "values that a forecast sees")
    horizon: int = flag(48, "values that it forecasts")
    width: int = flag(64, "units of the LSTM")
    dropout: float = flag(0.5, "share of the hidden features dropped")
    # Long sequences give rare, enormous gradients.
    clip_norm: float | None = flag(1.0, flags.CLIP_NORM)


SMOKE = {
    "dataset": "taylor",
    "epochs": 1,
    "width": 8,
    "history": 24,
    "train_size": 512,
    "steps_per_dispatch": 8,
}


class Forecaster(nnx.Module):
    """An LSTM over the history; its last state and the week before give the day."""

    def __init__(self, config: Config, rngs: nnx.Rngs):
        """Makes fresh parameters."""
        width, dtype = config.width, config.dtype
        self.lstm = nnx.RNN(
            nnx.OptimizedLSTMCell(2, width, dtype=dtype, rngs=rngs),
            rngs=False,  # Its first state is zero: no random numbers to keep.
        )
        self.hidden = nnx.Linear(
            width + config.horizon + 4, 2 * width, dtype=dtype, rngs=rngs
        )
        self.dropout = nnx.Dropout(config.dropout)
        self.head = nnx.Linear(2 * width, config.horizon, rngs=rngs)

    def __call__(self, batch: loop.Batch, rngs: nnx.Rngs) -> jax.Array:
        """Maps a history (B, C, 2) to a forecast (B, H), both standardised."""
        history, week_before = batch["history"], batch["week_before"]
        zeros = jnp.zeros((len(history), self.head.in_features // 2), history.dtype)
        states = self.lstm(history, initial_carry=(zeros, zeros))
        x = jnp.asarray(states)[:, -1]  # (B, width)
        angle = 2 * jnp.pi * batch["phase"][:, None] * jnp.array([1.0, 7.0])  # (B, 2)
        known = [x, week_before, jnp.sin(angle), jnp.cos(angle)]
        x = nnx.gelu(self.hidden(jnp.concatenate(known, -1)))  # (B, 2*width)
        x = self.dropout(x, rngs=rngs).astype(jnp.float32)
        # What is to be learned is the change since the week before.
        return week_before + self.head(x)


def per_example(model: Forecaster, batch: loop.Batch, rngs: nnx.Rngs) -> loop.Values:
    """Squared error, and absolute error in MW or kW, of each example, (B,) each."""
    error = model(batch, rngs) - batch["target"]  # (B, H)
    return {
        "loss": jnp.mean(error**2, -1),
        "absolute_error": jnp.mean(jnp.abs(error), -1) * batch["unit"],
    }


def load(config: Config) -> Dataset:
    """The data of a run."""
    return electricity.load(
        config.dataset,
        config.data_dir,
        config.history,
        config.horizon,
        config.train_size,
    )


def train(config: Config, data: Dataset) -> loop.Means:
    """Makes a model, and trains it."""
    model = loop.create(lambda rngs: Forecaster(config, rngs), config.seed)
    return loop.fit(config, data, model, per_example, metric="absolute_error")


def main(args: list[str] | None = None) -> loop.Means:
    """Trains with the flags of the command line."""
    config = flags.parse(Config, SMOKE, __doc__, args)
    devices.connect(config.coordinator, config.process_id, config.processes)
    data = load(config)
    if checkpoints.is_to_introduce(config):
        naive = electricity.weekly_naive_error(data)
        print(f"repeating the week before: test error {naive:.1f} {data.info['unit']}")
    return train(config, data)


if __name__ == "__main__":
    main()
