"""Fine-tuning: a perceptron, a convolution and a GPT, in three forms; and short runs.

The networks are trained before, with a fixed key, when the first of their tasks is made
in a process: each in less than half a minute.
"""

from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmark.studies.beyond_home.tasks import forms, gpt, images, text
from benchmark.studies.beyond_home.tasks.training import Training, language_adamw
from benchmark.tasks.language import on_parts
from benchmark.tasks.layers import cross_entropy
from benchmark.tasks.task import SPLITS, Array, Split, Task
from methods.optimizers import Make
from policy.networks import dense, linear, patches

LOWER, UPPER = tuple(range(5)), tuple(range(5, 10))  # digits
ANIMALS, VEHICLES = (2, 3, 4, 5, 6, 7), (0, 1, 8, 9)  # of CIFAR-10
PERCEPTRON = {"first": (64, 128), "second": (128, 64)}
CONVOLUTION = {"first": (27, 16), "second": (144, 32), "third": (288, 32)}
GPT = gpt.Size(width=64, depth=2, length=64, batch=8)
BATCH = 32  # images, or windows of the classifier
STEPS = 2000
SHORT_STEPS = 350
PACKAGES = ("jax", "numpy", "optax", "scipy")  # to be told apart by their source
WINDOWS = 1024  # in an evaluation


class Pretrained(NamedTuple):
    """A network, and what it is to learn now."""

    base: forms.Base
    task: Task  # of all parameters of the network
    optimizer: Make
    rate: float


def pretrain(task: Task, rate: float) -> Any:
    """The parameters after a cosine of Adam."""
    tx = optax.adam(optax.cosine_decay_schedule(rate, task.steps))

    def step(carry, key):
        params, state = carry
        updates, state = tx.update(jax.grad(task.loss)(params, key), state)
        return (optax.apply_updates(params, updates), state), None

    @jax.jit
    def run(key):
        params = task.init(key)
        keys = jax.random.split(jax.random.fold_in(key, 1), task.steps)
        return jax.lax.scan(step, (params, tx.init(params)), keys)[0][0]

    return run(jax.random.key(2025))


def layers(shapes: dict[str, tuple[int, int]], key: Array) -> dict[str, Any]:
    """Linear layers by name."""
    keys = jax.random.split(key, len(shapes))
    return {
        name: dense(key, *shape)
        for key, (name, shape) in zip(keys, shapes.items(), strict=True)
    }


def marked(names: tuple[str, ...], params: dict[str, Any]) -> dict[str, Any]:
    """Of each leaf, whether it belongs to one of the names."""
    return {
        name: jax.tree.map(lambda _, name=name: name in names, part)
        for name, part in params.items()
    }


def perceptron(params: dict[str, Any], x: Array) -> Array:
    """Of images (B, 64)."""
    for name in PERCEPTRON:
        x = jax.nn.relu(linear(params[name], x))
    return linear(params["out"], x)


def convolution(params: dict[str, Any], x: Array) -> Array:
    """Of images (B, 16, 16, 3), which the first two layers halve."""
    for name in CONVOLUTION:
        x = jax.nn.relu(linear(params[name], patches(x)))
        if name != "third":
            b, h, w, c = x.shape
            x = x.reshape(b, h // 2, 2, w // 2, 2, c).max((2, 4))
    return linear(params["out"], x.mean((1, 2)))


def other_classes(
    parts: images.Parts,
    shapes: dict[str, tuple[int, int]],
    logits: Callable[[Any, Array], Array],
    augment: Callable[[Array, Array], Array],
    *,
    classes: tuple[tuple[int, ...], tuple[int, ...]],
    steps: int,
) -> Pretrained:
    """A network that has learned some classes, and has to learn others.

    Its last layers are the new output and the layer before it.
    """
    inputs = list(shapes.values())[-1][1]
    before, after = (
        images.classification(
            images.of_classes(parts, chosen),
            partial(layers, shapes | {"out": (inputs, len(chosen))}),
            logits,
            augment,
            steps=length,
            batch=BATCH,
        )
        for chosen, length in zip(classes, (steps, STEPS), strict=True)
    )
    params = pretrain(before, 3e-3)
    del params["out"]
    outputs = {"out": (inputs, len(classes[1]))}
    last = (list(shapes)[-1], "out")

    base = forms.Base(params, partial(layers, outputs), partial(marked, last))
    return Pretrained(base, after, optax.adam, 1e-3)


@cache
def pretrained_perceptron(steps: int = 2000) -> Pretrained:
    """On digits below 5, for those from 5 on."""
    classes = (LOWER, UPPER)
    return other_classes(
        *(images.digits(), PERCEPTRON, perceptron, images.add_noise),
        classes=classes,
        steps=steps,
    )


@cache
def pretrained_convolution(data_dir: Path, steps: int = 3000) -> Pretrained:
    """On the animals of CIFAR-10, for its vehicles."""
    classes = (ANIMALS, VEHICLES)
    return other_classes(
        *(images.cifar(data_dir), CONVOLUTION, convolution, images.mirror),
        classes=classes,
        steps=steps,
    )


def next_character(package: str, steps: int) -> Task:
    """Of the source of a package, by the small GPT."""
    return on_parts(
        text.read(package),
        partial(gpt.init, GPT),
        gpt.logits,
        steps=steps,
        batch=GPT.batch,
        length=GPT.length,
        held_out=gpt.WINDOWS,
    )


@cache
def trained_gpt(steps: int) -> dict[str, Any]:
    """The parameters of the small GPT, on the source of scikit-learn."""
    return pretrain(next_character("sklearn", steps), 3e-3)


@cache
def pretrained_gpt(steps: int = 3000) -> Pretrained:
    """On the source of scikit-learn, for that of Optax. Its last layers are a block."""

    def is_last(params):
        marks = jax.tree.map(lambda _: False, params)
        marks["blocks"][-1] = jax.tree.map(lambda _: True, params["blocks"][-1])
        return marks | {"gain": True}

    base = forms.Base(trained_gpt(steps), lambda key: {}, is_last)
    return Pretrained(base, next_character("optax", STEPS), language_adamw, 1e-3)


@cache
def pretrained_classifier(steps: int = 3000) -> Pretrained:
    """On the source of scikit-learn; for the package that other source is from.

    As sentiment of a pretrained encoder: from the mean of the states that the GPT
    would make its last outputs of.
    """
    sources = [text.read(package) for package in PACKAGES]

    def stacked(split: Split) -> Array:
        parts = [source[split] for source in sources]
        shortest = min(map(len, parts))
        return jnp.asarray(np.stack([part[:shortest] for part in parts]))

    parts = {split: stacked(split) for split in SPLITS}

    def windows(part: Array, key: Array, labels: Array) -> Array:
        most = part.shape[1] - GPT.length
        starts = jax.random.randint(key, labels.shape, 0, most)
        return part[labels[:, None], starts[:, None] + jnp.arange(GPT.length)]

    def mean_loss(params, x, labels):
        states = gpt.states(params, x).mean(1)
        return cross_entropy(linear(params["out"], states), labels)

    def loss(params, key):
        label_key, key = jax.random.split(key)
        labels = jax.random.randint(label_key, (BATCH,), 0, len(PACKAGES))
        return mean_loss(params, windows(parts["train"], key, labels), labels)

    def evaluate(params, split):
        labels = jnp.repeat(jnp.arange(len(PACKAGES)), WINDOWS // len(PACKAGES))
        x = windows(parts[split], jax.random.key(0), labels)
        return mean_loss(params, x, labels)

    def fresh(key):
        return layers({"out": (GPT.width, len(PACKAGES))}, key)

    params = trained_gpt(steps)
    base = forms.Base(params, fresh, partial(marked, ("out",)))
    size = parts["train"].size // (BATCH * GPT.length)
    task = Task(
        STEPS, size, lambda key: params | fresh(key), loss, evaluate, False, "nats"
    )
    return Pretrained(base, task, language_adamw, 1e-3)


def fine_tuned(
    form: forms.Form, pretrained: Pretrained, steps: int = STEPS
) -> Training:
    """A form of what a network is to learn now."""
    base, task, optimizer, rate = pretrained

    def whole(params):
        return forms.network_params(form, base, params)

    adapted = task._replace(
        steps=steps,
        init=partial(forms.first_params, form, base),
        loss=lambda params, key: task.loss(whole(params), key),
        evaluate=lambda params, split: task.evaluate(whole(params), split),
    )
    labels = forms.labels(form, base)
    return Training(adapted, optimizer, rate, labels)
