"""Text: a character LSTM."""

import jax

from benchmark.tasks.language import language, read_text
from benchmark.tasks.layers import recur
from benchmark.tasks.task import Task
from policy.networks import dense, linear


def lstm(steps: int = 800, width: int = 64) -> Task:
    """Embeddings of 16 into one layer."""
    text, letters = read_text()

    def init(key):
        keys = jax.random.split(key, 3)
        return {
            "embedding": 0.3 * jax.random.normal(keys[0], (letters, 16)),
            "lstm": dense(keys[1], 16 + width, 4 * width),
            "out": dense(keys[2], width, letters),
        }

    def logits(params, x):
        return linear(
            params["out"], recur(params["lstm"], params["embedding"][x], width)
        )

    return language(text, init, logits, steps=steps, batch=16, length=32)
