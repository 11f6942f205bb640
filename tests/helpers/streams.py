"""Streams on which every rule is compared with its slow reference."""

import numpy as np

STEPS = 150


def _streams():
    rng = np.random.default_rng(1)
    t = np.arange(STEPS)
    noise = rng.normal(0, 0.1, STEPS)
    holes = 2 + 3 * np.exp(-t / 20) + noise
    holes[rng.random(STEPS) < 0.1] = np.nan
    holes[60:70] = np.inf  # a blow-up
    return {
        "decay": 0.5 + 3 * np.exp(-t / 30) + noise,
        "waves": 3 + np.sin(t / 12) + noise / 2,
        "valley": 2 + np.abs(t - 80) / 40 + noise,
        "negative": -8 + 3 * np.exp(-t / 30) + noise,
        "holes": holes,
    }


STREAMS = {name: np.float32(values) for name, values in _streams().items()}
