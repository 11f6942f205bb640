"""Forecasting: a day of half-hourly electricity demand from the day before."""

import jax
import jax.numpy as jnp
import numpy as np

from benchmark.tasks.layers import recur
from benchmark.tasks.task import Task
from data import electricity
from policy.networks import dense, linear

DAY = 48
TRAIN, VALIDATION = 3000, 3516  # where the splits end, of 4032 half hours


def demand(steps: int = 800, batch: int = 32, width: int = 32) -> Task:
    """An LSTM on demand and clocks; the mean absolute error, in MW."""
    series = np.loadtxt(electricity.TAYLOR, delimiter=",", dtype=np.float32).reshape(-1)
    mean, std = series[:TRAIN].mean(), series[:TRAIN].std()
    series = (series - mean) / std
    time = 2 * np.pi * np.arange(len(series))
    clocks = [f(time / period) for period in (DAY, 7 * DAY) for f in (np.sin, np.cos)]
    features = jnp.asarray(np.stack([series, *clocks], -1), jnp.float32)
    series = jnp.asarray(series)
    fixed = {
        "train": jnp.arange(0, VALIDATION - TRAIN - 2 * DAY, 2),
        "validation": jnp.arange(TRAIN, VALIDATION - 2 * DAY, 2),
        "test": jnp.arange(VALIDATION, len(series) - 2 * DAY, 2),
    }

    def init(key):
        keys = jax.random.split(key)
        return {
            "lstm": dense(keys[0], 5 + width, 4 * width),
            "out": dense(keys[1], width, DAY),
        }

    def mean_error(params, starts):
        windows = starts[:, None] + jnp.arange(DAY)
        hidden = recur(params["lstm"], features[windows], width)[:, -1]
        return jnp.abs(linear(params["out"], hidden) - series[windows + DAY]).mean()

    def loss(params, key):
        starts = jax.random.randint(key, (batch,), 0, TRAIN - 2 * DAY)
        return mean_error(params, starts)

    def evaluate(params, split):
        return std * mean_error(params, fixed[split])

    return Task(steps, TRAIN // batch, init, loss, evaluate, False, "MW")
