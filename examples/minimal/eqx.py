"""Equinox: a model that is a pytree, and a learning rate that autotune finds.

    python examples/minimal/eqx.py

(A script of the name ``equinox.py`` would be imported in the place of the library.)
"""

from typing import Any

import equinox as eqx
import jax
import numpy as np
import optax
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import optax_adaptive

images, labels = load_digits(return_X_y=True)
images = (images / 16).astype(np.float32)
x_train, x_test, y_train, y_test = train_test_split(
    images, labels, test_size=360, random_state=0
)

model = eqx.nn.MLP(64, 10, width_size=128, depth=1, key=jax.random.key(0))
tx = optax_adaptive.autotune(optax.adam(1e-6))
# An activation function is a leaf of the model, but nothing to train.
opt_state = tx.init(eqx.filter(model, eqx.is_inexact_array))


@eqx.filter_jit
def train_step(model, opt_state, x, y):
    """One update; params are the same part of the model as in ``tx.init``."""

    def loss_fn(model):
        logits = jax.vmap(model)(x)
        return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()

    loss, grads = eqx.filter_value_and_grad(loss_fn)(model)
    params = eqx.filter(model, eqx.is_inexact_array)
    updates, opt_state = tx.update(grads, opt_state, params, value=loss)
    return eqx.apply_updates(model, updates), opt_state, loss


@eqx.filter_jit
def predict(model, opt_state, x):
    """Digits by the average, which takes the place of what is trained in the model."""
    averaged: Any = optax_adaptive.eval_params(opt_state, model)
    return jax.vmap(averaged)(x).argmax(-1)


def accuracy(model, opt_state):
    """On the test images, between 0 and 1."""
    return float((predict(model, opt_state, x_test) == y_test).mean())


print(f"test accuracy before: {accuracy(model, opt_state):.1%}")
rng = np.random.default_rng(0)
for step in range(1, 1001):
    batch = rng.integers(len(x_train), size=64)
    model, opt_state, loss = train_step(
        model, opt_state, x_train[batch], y_train[batch]
    )
    if step % 200 == 0:
        scale = optax_adaptive.lr_scale(opt_state)
        print(f"step {step}: loss {loss:.4f}, lr_scale {scale:.3g}")

print(f"test accuracy after: {accuracy(model, opt_state):.1%}")
