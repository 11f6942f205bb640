"""Text: the next character of docstrings, whatever the network."""

import inspect
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmark.tasks.layers import cross_entropy
from benchmark.tasks.task import SPLITS, Array, Split, Task

WINDOWS = 128  # in each evaluation


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


def language(
    text: np.ndarray,
    init: Callable,
    logits_fn: Callable,
    *,
    steps: int,
    batch: int,
    length: int,
) -> Task:
    """On random windows of the first nine tenths; two twentieths are held out."""
    ends = [int(share * len(text)) for share in (0.9, 0.95)]
    parts = dict(zip(SPLITS, np.split(text, ends), strict=True))
    return on_parts(parts, init, logits_fn, steps=steps, batch=batch, length=length)


def on_parts(
    parts: dict[Split, np.ndarray],
    init: Callable,
    logits_fn: Callable,
    *,
    steps: int,
    batch: int,
    length: int,
    held_out: int = WINDOWS,
) -> Task:
    """The same on a text that is in three parts already."""

    def windows(part: Array, key: Array, size: int) -> Array:
        starts = jax.random.randint(key, (size,), 0, part.shape[0] - length - 1)
        return part[starts[:, None] + jnp.arange(length + 1)]

    train = jnp.asarray(parts["train"])
    fixed = {
        name: windows(jnp.asarray(part), jax.random.key(0), held_out)
        for name, part in parts.items()
    }

    def mean_loss(params, window):
        return cross_entropy(logits_fn(params, window[:, :-1]), window[:, 1:])

    def loss(params, key):
        return mean_loss(params, windows(train, key, batch))

    def evaluate(params, split):
        return mean_loss(params, fixed[split])

    steps_per_epoch = len(parts["train"]) // (batch * length)
    return Task(steps, steps_per_epoch, init, loss, evaluate, False, "nats")
