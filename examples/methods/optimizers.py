"""The base optimizers by name, and each of them without momentum."""

from collections.abc import Callable
from functools import partial
from typing import Any

import optax
from optax import contrib

Make = Callable[..., optax.GradientTransformation]  # learning rate -> optimizer

OPTIMIZERS: dict[str, Make] = {
    "adam": optax.adam,
    "adamw": optax.adamw,
    "nadamw": optax.nadamw,
    "lion": optax.lion,
    "momentum": partial(optax.sgd, momentum=0.9),
    "sgd": optax.sgd,
    "adafactor": optax.adafactor,
    "muon": contrib.muon,
}

# By what momentum is switched off; other optimizers have none.
_OFF: dict[Any, dict[str, Any]] = {
    optax.adam: {"b1": 0.0},
    optax.adamw: {"b1": 0.0},
    optax.nadam: {"b1": 0.0},
    optax.nadamw: {"b1": 0.0},
    optax.lion: {"b1": 0.0},
    optax.sgd: {"momentum": None},
    contrib.muon: {"beta": 0.0, "adam_b1": 0.0},
}


def without_momentum(make: Make) -> Make:
    """The same optimizer, one of optax's or a ``partial`` of one, without momentum."""
    of = make.func if isinstance(make, partial) else make
    return partial(make, **_OFF.get(of, {}))


WITHOUT_MOMENTUM = {name: without_momentum(make) for name, make in OPTIMIZERS.items()}
