"""What is timed: an optimizer's step on trees of many sizes, and whole steps."""

import os
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx

import resnet18_cifar


class Workload(NamedTuple):
    """What is timed."""

    params: Callable[[], list[jax.Array]]  # makes new ones
    steps: int  # a timing; where it is 1 there is room for one state at a time
    repetitions: int
    gradient: Callable[[Any, Any], tuple[Any, Any]]  # params, data -> value, gradients
    data: Any


def given(params: Any, grads: Any) -> tuple[Any, Any]:
    """The optimizer's step alone."""
    del params
    return jnp.float32(1.0), grads


def cross_entropy(params: Any, batch: Any) -> Any:
    """Of a perceptron with two hidden layers."""
    x, labels = batch
    for weights in params[:-1]:
        x = jax.nn.relu(x @ weights)
    logits = x @ params[-1]
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


def constant(shapes: list[tuple[int, ...]]) -> Callable[[], list[jax.Array]]:
    """Parameters for gradients that are given."""
    return lambda: [jnp.full(shape, 1e-3, jnp.float32) for shape in shapes]


def random(shapes: list[tuple[int, ...]]) -> Callable[[], list[jax.Array]]:
    """Parameters that can be trained (He et al., 2015)."""
    init = jax.nn.initializers.he_normal()
    return lambda: list(map(init, keys(len(shapes)), shapes))


def keys(number: int) -> jax.Array:
    """Always the same."""
    return jax.random.split(jax.random.key(0), number)


def resnet18() -> list[tuple[int, ...]]:
    """Shapes of its 11.2 million parameters."""
    info = {"mean": [0.5] * 3, "std": [0.25] * 3, "classes": 10}
    config = resnet18_cifar.Config()
    model = resnet18_cifar.ResNet18(info, config, nnx.Rngs(0))
    return [leaf.shape for leaf in jax.tree.leaves(nnx.state(model, nnx.Param))]


def workloads() -> dict[str, Workload]:
    """By name."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    # Parameters, gradients and two moments, and once more while they are replaced.
    rows = int(memory / 2 / (8 * 4) / 4096 / 16)
    half = f"{16 * rows * 4096 / 1e6:.0f}M (half the memory)"
    trees = {
        "16 parameters": ([(4,)] * 4, 200, 200),
        "11.2M (ResNet-18)": (resnet18(), 5, 40),
        half: ([(rows, 4096)] * 16, 1, 3),
    }
    alone = {
        name: Workload(
            constant(shapes),
            steps,
            repetitions,
            given,
            constant(shapes)(),
        )
        for name, (shapes, steps, repetitions) in trees.items()
    }
    of_pixels, of_labels = keys(2)
    pixels = jax.random.normal(of_pixels, (256, 784))
    labels = jax.random.randint(of_labels, (256,), 0, 10)
    perceptron = random([(784, 600), (600, 500), (500, 10)])
    return {
        **alone,
        "training step (0.8M, batch 256)": Workload(
            perceptron, 5, 40, jax.value_and_grad(cross_entropy), (pixels, labels)
        ),
    }
