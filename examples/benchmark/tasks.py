"""Small trainings as pure functions, so that a whole run is one jax.lax.scan.

Each takes seconds on one CPU core. Batches are drawn inside the loss by a random key;
batch normalisation uses the batch in training and 512 training images in evaluation,
which is what averaged weights need in any case.
"""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

Array = jax.Array


class Task(NamedTuple):
    """A training problem; parameters are any pytree."""

    steps: int
    init: Callable[[Array], Any]  # key -> params
    loss: Callable[[Any, Array], Array]  # params, key -> float32[]
    evaluate: Callable[[Any], Array]  # params -> float32[]
    is_accuracy: bool  # evaluate gives percent correct; otherwise a loss
    unit: str


def dense(key: Array, inputs: int, outputs: int) -> dict[str, Array]:
    """A linear layer of variance 1 / inputs."""
    weights = jax.random.normal(key, (inputs, outputs)) / np.sqrt(inputs)
    return {"weights": weights, "bias": jnp.zeros(outputs)}


def apply(layer: dict[str, Array], x: Array) -> Array:
    """The linear layer on the last axis of ``x``."""
    return x @ layer["weights"] + layer["bias"]


def cross_entropy(logits: Array, labels: Array) -> Array:
    """Mean over all axes of ``labels``."""
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    return losses.mean()


def percent_correct(logits: Array, labels: Array) -> Array:
    """Accuracy in percent."""
    return 100.0 * (logits.argmax(-1) == labels).mean()


def digits(steps: int = 2000, batch: int = 64, label_noise: float = 0.0) -> Task:
    """64-128-64-10 network with dropout 0.5 on noisy 8x8 digits."""
    from sklearn.datasets import load_digits

    pixels, classes = map(np.asarray, load_digits(return_X_y=True))
    order = np.random.RandomState(0).permutation(len(classes))
    images = jnp.asarray(pixels[order] / 16.0, jnp.float32)
    labels = jnp.asarray(classes[order], jnp.int32)
    train, test = slice(1200), slice(1200, None)
    sizes = (64, 128, 64, 10)

    def add_noise(key, x):
        return x + 0.3 * jax.random.normal(key, x.shape)

    keys = jax.random.split(jax.random.key(7), 4)
    test_images = jnp.concatenate([add_noise(key, images[test]) for key in keys])
    test_labels = jnp.tile(labels[test], 4)

    def init(key):
        keys = jax.random.split(key, 3)
        return [dense(k, *sizes[i : i + 2]) for i, k in enumerate(keys)]

    def forward(params, x, key=None):
        for i, layer in enumerate(params[:-1]):
            x = jax.nn.relu(apply(layer, x))
            if key is not None:
                kept = jax.random.bernoulli(jax.random.fold_in(key, i), 0.5, x.shape)
                x = jnp.where(kept, 2.0 * x, 0.0)
        return apply(params[-1], x)

    def loss(params, key):
        index_key, noise_key, flip_key, label_key, drop_key = jax.random.split(key, 5)
        index = jax.random.randint(index_key, (batch,), 0, 1200)
        targets = labels[train][index]
        if label_noise:
            flips = jax.random.bernoulli(flip_key, label_noise, targets.shape)
            random = jax.random.randint(label_key, targets.shape, 0, 10)
            targets = jnp.where(flips, random, targets)
        inputs = add_noise(noise_key, images[train][index])
        return cross_entropy(forward(params, inputs, drop_key), targets)

    def evaluate(params):
        return percent_correct(forward(params, test_images), test_labels)

    return Task(steps, init, loss, evaluate, True, "% correct")


def cnn(data_dir: str, steps: int = 800, batch: int = 32) -> Task:
    """8-16-32 batch-norm network on CIFAR-10, halved to 16x16, 12,000 images."""
    import tensorflow_datasets as tfds

    def load(split, size):
        source: Any = tfds.data_source(
            "cifar10", split=split, data_dir=data_dir, download=False
        )
        rows = [source[i] for i in range(size)]
        images = np.stack([row["image"] for row in rows]).astype(np.float32)
        images = images.reshape(size, 16, 2, 16, 2, 3).mean((2, 4))
        labels = np.array([row["label"] for row in rows], np.int32)
        return jnp.asarray((images / 255 - 0.47) / 0.25), jnp.asarray(labels)

    images, labels = load("train", 12_000)
    test_images, test_labels = load("test", 2_000)
    channels = (3, 8, 16, 32)

    def init(key):
        keys = jax.random.split(key, 4)
        layers = [
            {
                "kernel": jax.random.normal(k, (9 * c, d)) * np.sqrt(2 / (9 * c)),
                "scale": jnp.ones(d),
                "bias": jnp.zeros(d),
            }
            for k, c, d in zip(keys, channels[:-1], channels[1:], strict=False)
        ]
        return {"layers": layers, "out": dense(keys[3], channels[-1], 10)}

    def patches(x):  # (B, H, W, C) -> (B, H, W, 9 C)
        height, width = x.shape[1:3]
        x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
        shifts = [(i, j) for i in range(3) for j in range(3)]
        return jnp.concatenate(
            [x[:, i : i + height, j : j + width] for i, j in shifts], -1
        )

    def forward(params, x, stats=None):
        seen = []
        for i, layer in enumerate(params["layers"]):
            x = patches(x) @ layer["kernel"]
            axes = (0, 1, 2)
            mean, var = (x.mean(axes), x.var(axes)) if stats is None else stats[i]
            seen.append((mean, var))
            x = (x - mean) * jax.lax.rsqrt(var + 1e-5) * layer["scale"] + layer["bias"]
            x = jax.nn.relu(x)
            if i < 2:
                b, h, w, c = x.shape
                x = x.reshape(b, h // 2, 2, w // 2, 2, c).max((2, 4))
        return apply(params["out"], x.mean((1, 2))), seen

    def loss(params, key):
        index_key, flip_key = jax.random.split(key)
        index = jax.random.randint(index_key, (batch,), 0, images.shape[0])
        flips = jax.random.bernoulli(flip_key, 0.5, (batch, 1, 1, 1))
        x = jnp.where(flips, images[index][:, :, ::-1], images[index])
        return cross_entropy(forward(params, x)[0], labels[index])

    def evaluate(params):
        _, stats = forward(params, images[:512])
        logits, _ = forward(params, test_images, stats)
        return percent_correct(logits, test_labels)

    return Task(steps, init, loss, evaluate, True, "% correct")


def recur(layer: dict[str, Array], x: Array, width: int) -> Array:
    """An LSTM over (B, T, inputs), to (B, T, width)."""
    inputs = x.shape[-1]
    projected = x @ layer["weights"][:inputs] + layer["bias"]
    recurrent = layer["weights"][inputs:]

    def step(carry, gates):
        hidden, cell = carry
        gates = gates + hidden @ recurrent
        enter, leave, keep, new = jnp.split(gates, 4, axis=-1)
        cell = jax.nn.sigmoid(keep + 1.0) * cell + jax.nn.sigmoid(enter) * jnp.tanh(new)
        hidden = jax.nn.sigmoid(leave) * jnp.tanh(cell)
        return (hidden, cell), hidden

    zeros = jnp.zeros((x.shape[0], width))
    _, hidden = jax.lax.scan(step, (zeros, zeros), projected.swapaxes(0, 1))
    return hidden.swapaxes(0, 1)


def read_text() -> tuple[np.ndarray, int]:
    """Docstrings of the installed optax, jax, numpy, scikit-learn, as characters."""
    import sklearn.ensemble
    import sklearn.linear_model

    modules = (optax, jnp, np, sklearn.linear_model, sklearn.ensemble)
    texts = [
        inspect.getdoc(getattr(module, name, None)) or ""
        for module in modules
        for name in sorted(dir(module))
    ]
    text = "\n".join(dict.fromkeys(text for text in texts if len(text) > 300))
    text = "".join(c if " " <= c <= "~" or c == "\n" else " " for c in text)
    alphabet = {c: i for i, c in enumerate(sorted(set(text)))}
    return np.array([alphabet[c] for c in text], np.int32), len(alphabet)


def _language(init, logits_fn, steps, batch, length) -> Task:
    """Next character, on random windows; the last tenth is the test split."""
    text, _ = read_text()
    split = int(0.9 * len(text))

    def windows(part, key, size):
        starts = jax.random.randint(key, (size,), 0, part.shape[0] - length - 1)
        return part[starts[:, None] + jnp.arange(length + 1)]

    train, test = jnp.asarray(text[:split]), jnp.asarray(text[split:])
    fixed = windows(test, jax.random.key(0), 256)

    def mean_loss(params, window):
        return cross_entropy(logits_fn(params, window[:, :-1]), window[:, 1:])

    def loss(params, key):
        return mean_loss(params, windows(train, key, batch))

    return Task(steps, init, loss, lambda p: mean_loss(p, fixed), False, "nats")


def lstm(steps: int = 800, width: int = 64) -> Task:
    """A character LSTM."""
    _, letters = read_text()

    def init(key):
        keys = jax.random.split(key, 3)
        return {
            "embedding": 0.3 * jax.random.normal(keys[0], (letters, 16)),
            "lstm": dense(keys[1], 16 + width, 4 * width),
            "out": dense(keys[2], width, letters),
        }

    def logits(params, x):
        return apply(
            params["out"], recur(params["lstm"], params["embedding"][x], width)
        )

    return _language(init, logits, steps, batch=16, length=32)


def transformer(steps: int = 800, width: int = 32, length: int = 32) -> Task:
    """Two pre-norm blocks of causal attention, two heads, on characters."""
    _, letters = read_text()
    heads = 2

    def init(key):
        keys = iter(jax.random.split(key, 11))
        block = {"qkv": 3 * width, "project": width, "widen": 4 * width}
        return {
            "embedding": 0.3 * jax.random.normal(next(keys), (letters, width)),
            "position": 0.1 * jax.random.normal(next(keys), (length, width)),
            "out": dense(next(keys), width, letters),
            "blocks": [
                {name: dense(next(keys), width, size) for name, size in block.items()}
                | {"narrow": dense(next(keys), 4 * width, width)}
                | {"norms": jnp.ones((2, width))}
                for _ in range(2)
            ],
        }

    def norm(x):
        x = x - x.mean(-1, keepdims=True)
        return x * jax.lax.rsqrt(jnp.square(x).mean(-1, keepdims=True) + 1e-5)

    mask = jnp.tril(jnp.ones((length, length), bool))

    def logits(params, x):
        x = params["embedding"][x] + params["position"]
        batch = x.shape[0]
        for block in params["blocks"]:
            qkv = apply(block["qkv"], norm(x) * block["norms"][0])
            q, k, v = jnp.moveaxis(
                qkv.reshape(batch, length, 3, heads, width // heads), 2, 0
            )
            scores = jnp.einsum("bthd,bshd->bhts", q, k) / np.sqrt(width // heads)
            weights = jax.nn.softmax(jnp.where(mask, scores, -1e9))
            mixed = jnp.einsum("bhts,bshd->bthd", weights, v)
            x = x + apply(block["project"], mixed.reshape(batch, length, width))
            wide = jax.nn.gelu(apply(block["widen"], norm(x) * block["norms"][1]))
            x = x + apply(block["narrow"], wide)
        return apply(params["out"], norm(x))

    return _language(init, logits, steps, batch=16, length=length)


def demand(steps: int = 800, batch: int = 32, width: int = 32) -> Task:
    """An LSTM that forecasts a day of half-hourly demand from the day before."""
    path = Path(__file__).parents[1] / "common" / "taylor.csv"
    series = np.loadtxt(path, delimiter=",", dtype=np.float32).reshape(-1)
    split, day = 3000, 48
    mean, std = series[:split].mean(), series[:split].std()
    series = (series - mean) / std
    time = 2 * np.pi * np.arange(len(series))
    clocks = [f(time / period) for period in (day, 7 * day) for f in (np.sin, np.cos)]
    features = jnp.asarray(np.stack([series, *clocks], -1), jnp.float32)
    series = jnp.asarray(series)

    def init(key):
        keys = jax.random.split(key)
        return {
            "lstm": dense(keys[0], 5 + width, 4 * width),
            "out": dense(keys[1], width, day),
        }

    def mean_error(params, starts):
        windows = starts[:, None] + jnp.arange(day)
        hidden = recur(params["lstm"], features[windows], width)[:, -1]
        return jnp.abs(apply(params["out"], hidden) - series[windows + day]).mean()

    def loss(params, key):
        starts = jax.random.randint(key, (batch,), 0, split - 2 * day)
        return mean_error(params, starts)

    test = jnp.arange(split, len(series) - 2 * day, 4)
    return Task(steps, init, loss, lambda p: std * mean_error(p, test), False, "MW")


def make(name: str, data_dir: str) -> Task:
    """The task called ``name``, one of ``NAMES``."""
    if name == "cnn":
        return cnn(data_dir)
    if name == "noisy":
        return digits(batch=8, label_noise=0.2)
    if name == "short":
        return digits(steps=500)
    makers = {"digits": digits, "lstm": lstm, "demand": demand}
    return (makers | {"transformer": transformer})[name]()


NAMES = ("digits", "noisy", "short", "cnn", "lstm", "transformer", "demand")
