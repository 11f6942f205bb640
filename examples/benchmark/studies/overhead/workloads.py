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

    shapes: list[tuple[int, ...]]  # of the parameters
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


def resnet18() -> tuple[list[tuple[int, ...]], Callable[[Any, Any], tuple[Any, Any]]]:
    """Shapes of its 11.2 million parameters, and value and gradients of its loss."""
    info = {"mean": [0.5] * 3, "std": [0.25] * 3, "classes": 10}
    config = resnet18_cifar.Config()
    model = resnet18_cifar.ResNet18(info, config, nnx.Rngs(0))
    graphdef, params, statistics = nnx.split(model, nnx.Param, ...)
    leaves, structure = jax.tree.flatten(params)

    def loss(leaves, batch):
        params = jax.tree.unflatten(structure, leaves)
        model = nnx.merge(graphdef, params, statistics, copy=True)
        images, labels = batch
        losses = optax.softmax_cross_entropy_with_integer_labels(model(images), labels)
        return losses.mean()

    return [leaf.shape for leaf in leaves], jax.value_and_grad(loss)


def workloads() -> dict[str, Workload]:
    """By name."""
    resnet_shapes, resnet_gradient = resnet18()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    # Parameters, gradients and two moments, and once more while they are replaced.
    rows = int(memory / 2 / (8 * 4) / 4096 / 16)
    half = f"{16 * rows * 4096 / 1e6:.0f}M (half the memory)"
    trees = {
        "16 parameters": ([(4,)] * 4, 200, 200),
        "11.2M (ResNet-18)": (resnet_shapes, 5, 40),
        half: ([(rows, 4096)] * 16, 1, 3),
    }
    batch = (jnp.ones((256, 784)), jnp.zeros(256, jnp.int32))
    perceptron = [(784, 600), (600, 500), (500, 10)]
    training = Workload(perceptron, 5, 40, jax.value_and_grad(cross_entropy), batch)
    alone = {
        name: Workload(
            shapes,
            steps,
            repetitions,
            given,
            [jnp.full(shape, 1e-3, jnp.float32) for shape in shapes],
        )
        for name, (shapes, steps, repetitions) in trees.items()
    }
    images = (jnp.ones((64, 32, 32, 3), jnp.uint8), jnp.zeros(64, jnp.int32))
    return {
        **alone,
        "training step (0.8M, batch 256)": training,
        "training step (ResNet-18, batch 64)": Workload(
            resnet_shapes, 2, 10, resnet_gradient, images
        ),
    }
