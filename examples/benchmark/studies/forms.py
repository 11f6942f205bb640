"""Forms of autotune and of learned, as sampled and transfer tasks are trained with."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from benchmark.studies.ablation.variants import UNCORRECTED, composed
from methods.rules import LEARNED_INTERPOLATED
from optax_adaptive import (
    autotune,
    controllers,
    scale_by_controller,
    with_averaging,
    with_rollback,
)


class Form(NamedTuple):
    """What a task is trained with."""

    make: Callable[..., optax.GradientTransformationExtraArgs]  # as autotune
    interpolates: bool = False
    knows_length: bool = False


def learned(
    optimizer: optax.GradientTransformation,
    *,
    total_steps: int | None,
    interpolate: bool,
) -> optax.GradientTransformationExtraArgs:
    """As docs/research/learned.md has it."""
    options = LEARNED_INTERPOLATED if interpolate else {}
    rule = scale_by_controller(controllers.learned(total_steps))
    return with_averaging(with_rollback(optax.chain(optimizer, rule)), **options)


FORMS = {
    "plain": Form(autotune),
    "plain, never corrected": Form(partial(composed, variant=UNCORRECTED)),
    "interpolated": Form(autotune, interpolates=True),
    "plain, length known": Form(autotune, knows_length=True),
    "interpolated, length known": Form(autotune, interpolates=True, knows_length=True),
    "learned": Form(learned),
    "learned, interpolated": Form(learned, interpolates=True),
}


def keys(key: int, count: int) -> jax.Array:
    """(count,) random keys, one a task."""
    return jax.vmap(partial(jax.random.fold_in, jax.random.key(key)))(jnp.arange(count))
