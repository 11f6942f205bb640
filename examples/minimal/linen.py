"""Flax linen: a TrainState whose learning rate autotune finds.

    python examples/minimal/linen.py

``TrainState.apply_gradients`` does not hand the loss on, so integrations has its own.
"""

import jax
import numpy as np
import optax
from flax import linen as nn
from flax.training.train_state import TrainState
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import optax_adaptive
from optax_adaptive import integrations

images, labels = load_digits(return_X_y=True)
images = (images / 16).astype(np.float32)
x_train, x_test, y_train, y_test = train_test_split(
    images, labels, test_size=360, random_state=0
)


class MLP(nn.Module):
    """64-128-10."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps images (B, 64) to logits (B, 10)."""
        return nn.Dense(10)(nn.relu(nn.Dense(128)(x)))


model = MLP()
predict = jax.jit(model.apply)


@jax.jit
def train_step(state, x, y):
    """One update: ``apply_gradients`` with the loss."""

    def loss_fn(params):
        logits = state.apply_fn(params, x)
        return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()

    loss, grads = jax.value_and_grad(loss_fn)(state.params)
    return integrations.apply_gradients(state, grads=grads, value=loss), loss


def accuracy(params):
    """On the test images, between 0 and 1."""
    return float((predict(params, x_test).argmax(-1) == y_test).mean())


state = TrainState.create(
    apply_fn=model.apply,
    params=model.init(jax.random.key(0), x_train[:1]),
    tx=optax_adaptive.autotune(optax.adam(1e-6)),
)
print(f"test accuracy before: {accuracy(state.params):.1%}")

rng = np.random.default_rng(0)
for step in range(1, 1001):
    batch = rng.integers(len(x_train), size=64)
    state, loss = train_step(state, x_train[batch], y_train[batch])
    if step % 200 == 0:
        scale = optax_adaptive.lr_scale(state.opt_state)
        print(f"step {step}: loss {loss:.4f}, lr_scale {scale:.3g}")

averaged = optax_adaptive.eval_params(state.opt_state, state.params)
print(f"test accuracy after: {accuracy(averaged):.1%}")
