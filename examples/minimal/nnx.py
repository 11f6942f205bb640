"""Flax NNX: a network that reads handwritten digits, and no learning rate to choose.

    python examples/minimal/nnx.py

Adam gets a learning rate that is a thousand times too small: autotune finds its own.
"""

import jax
import numpy as np
import optax
from flax import nnx
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import optax_adaptive

images, labels = load_digits(return_X_y=True)
images = (images / 16).astype(np.float32)
x_train, x_test, y_train, y_test = train_test_split(
    images, labels, test_size=360, random_state=0
)


class MLP(nnx.Module):
    """64-128-10."""

    def __init__(self, rngs: nnx.Rngs):
        """Initialises the two layers."""
        self.hidden = nnx.Linear(64, 128, rngs=rngs)
        self.logits = nnx.Linear(128, 10, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps images (B, 64) to logits (B, 10)."""
        return self.logits(nnx.relu(self.hidden(x)))


@nnx.jit
def train_step(model, optimizer, x, y):
    """One update; what is new in it is ``value=loss``."""

    def loss_fn(model):
        return optax.softmax_cross_entropy_with_integer_labels(model(x), y).mean()

    loss, grads = nnx.value_and_grad(loss_fn)(model)
    optimizer.update(model, grads, value=loss)
    return loss


def accuracy(model):
    """On the test images, between 0 and 1."""
    return float((model(x_test).argmax(-1) == y_test).mean())


model = MLP(nnx.Rngs(0))
tx = optax_adaptive.autotune(optax.adam(1e-6))
optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)
print(f"test accuracy before: {accuracy(model):.1%}")

rng = np.random.default_rng(0)
for step in range(1, 1001):
    batch = rng.integers(len(x_train), size=64)
    loss = train_step(model, optimizer, x_train[batch], y_train[batch])
    if step % 200 == 0:
        scale = optax_adaptive.lr_scale(optimizer.opt_state)
        print(f"step {step}: loss {loss:.4f}, lr_scale {scale:.3g}")

# Evaluate and save the average of the parameters, not the newest ones, in a copy:
# training could go on with the model.
served, params = nnx.clone(model), nnx.state(model, nnx.Param)
nnx.update(served, optax_adaptive.eval_params(optimizer.opt_state, params))
print(f"test accuracy after: {accuracy(served):.1%}")
