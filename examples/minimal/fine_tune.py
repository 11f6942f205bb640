"""Fine-tuning with LoRA (Flax NNX): autotune trains the few new weights alone.

    python examples/minimal/fine_tune.py

A network that reads digits gets images turned by a quarter. What was trained before is
frozen: autotune is given the low-rank factors alone, so it averages and copies no more.
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
turned = np.rot90(images.reshape(-1, 8, 8), axes=(1, 2)).reshape(-1, 64)
x_train, x_test, new_train, new_test, y_train, y_test = train_test_split(
    images, turned, labels, test_size=360, random_state=0
)


class MLP(nnx.Module):
    """64-128-10, each layer with low-rank factors beside its weights."""

    def __init__(self, rngs: nnx.Rngs):
        """Initialises the layers; the factors change nothing at first."""
        self.hidden = nnx.LoRALinear(64, 128, lora_rank=8, rngs=rngs)
        self.logits = nnx.LoRALinear(128, 10, lora_rank=8, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps images (B, 64) to logits (B, 10)."""
        return self.logits(nnx.relu(self.hidden(x)))


def train(model, trained, x_train, steps):
    """Trains the variables of one type, and leaves their average in the model."""
    # Any optimizer and learning rate: each training finds its own.
    tx = optax_adaptive.autotune(optax.adam(1e-3))
    optimizer = nnx.Optimizer(model, tx, wrt=trained)
    wanted = nnx.DiffState(0, trained)

    @nnx.jit
    def train_step(model, optimizer, x, y):
        def loss_fn(model):
            return optax.softmax_cross_entropy_with_integer_labels(model(x), y).mean()

        loss, grads = nnx.value_and_grad(loss_fn, argnums=wanted)(model)
        optimizer.update(model, grads, value=loss)

    rng = np.random.default_rng(0)
    for _ in range(steps):
        batch = rng.integers(len(x_train), size=64)
        train_step(model, optimizer, x_train[batch], y_train[batch])
    params = nnx.state(model, trained)
    nnx.update(model, optax_adaptive.eval_params(optimizer.opt_state, params))
    print(f"lr_scale {optax_adaptive.lr_scale(optimizer.opt_state):.3g}")


def accuracy(model, x_test):
    """On test images, between 0 and 1."""
    return float((model(x_test).argmax(-1) == y_test).mean())


model = MLP(nnx.Rngs(0))
# LoRAParam is a Param too, so what is to stay away has to be said.
train(model, nnx.All(nnx.Param, nnx.Not(nnx.LoRAParam)), x_train, steps=800)
print(f"as trained: test accuracy {accuracy(model, x_test):.1%}")
print(f"test accuracy before: {accuracy(model, new_test):.1%}")
train(model, nnx.LoRAParam, new_train, steps=800)
print(f"test accuracy after: {accuracy(model, new_test):.1%}")
