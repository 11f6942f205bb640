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


def clipped(
    optimizer: optax.GradientTransformation, norm: float | None
) -> optax.GradientTransformationExtraArgs:
    """Clips gradients to this global norm first; the state is the optimizer's own."""
    optimizer = optax.with_extra_args_support(optimizer)
    if norm is None:
        return optimizer
    clip = optax.clip_by_global_norm(norm)

    def update_fn(updates, state, params=None, **extra_args):
        updates, _ = clip.update(updates, optax.EmptyState())
        return optimizer.update(updates, state, params, **extra_args)

    return optax.GradientTransformationExtraArgs(optimizer.init, update_fn)


WITHOUT_MOMENTUM = {name: without_momentum(make) for name, make in OPTIMIZERS.items()}
