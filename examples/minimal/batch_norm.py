"""Batch norm (Flax NNX): statistics that follow a rollback, and fit the average.

python examples/minimal/batch_norm.py
"""

import numpy as np
import optax
from flax import nnx
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import optax_adaptive

images, labels = load_digits(return_X_y=True)
images = (images / 16).astype(np.float32)
split = train_test_split(images, labels, test_size=360, random_state=0)
x_train, x_test, y_train, y_test = split


class MLP(nnx.Module):
    """64-128-10 with batch norm."""

    def __init__(self, rngs: nnx.Rngs):
        """Initialises the layers."""
        self.hidden = nnx.Linear(64, 128, use_bias=False, rngs=rngs)
        self.norm = nnx.BatchNorm(128, momentum=0.9, rngs=rngs)
        self.logits = nnx.Linear(128, 10, rngs=rngs)

    def __call__(self, x):
        """Maps images (B, 64) to logits (B, 10)."""
        return self.logits(nnx.relu(self.norm(self.hidden(x))))


@nnx.jit
def train_step(model, optimizer, healthy, x, y):
    """One update; ``healthy`` are the statistics to roll back to."""

    def loss_fn(model):
        return optax.softmax_cross_entropy_with_integer_labels(model(x), y).mean()

    loss, grads = nnx.value_and_grad(loss_fn)(model)
    optimizer.update(model, grads, value=loss)
    current = nnx.as_pure(nnx.state(model, nnx.BatchStat))
    selected = optax_adaptive.select_on_rollback(optimizer.opt_state, healthy, current)
    healthy, current = selected
    nnx.update(model, current)
    return healthy, loss


model = MLP(nnx.Rngs(0))
tx = optax_adaptive.autotune(optax.adam(1e-6))
optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)
healthy = first_stats = nnx.as_pure(nnx.state(model, nnx.BatchStat))
rng = np.random.default_rng(0)
for step in range(1, 1001):
    batch = rng.integers(len(x_train), size=64)
    x, y = x_train[batch], y_train[batch]
    healthy, loss = train_step(model, optimizer, healthy, x, y)
    if step % 200 == 0:
        scale = optax_adaptive.lr_scale(optimizer.opt_state)
        print(f"step {step}: loss {loss:.4f}, lr_scale {scale:.3g}")

# In a copy: training could go on with the model. With momentum 0 a forward pass leaves
# the statistics of its own batch.
served, params = nnx.clone(model), nnx.state(model, nnx.Param)
nnx.update(served, optax_adaptive.eval_params(optimizer.opt_state, params), first_stats)
served.set_attributes(nnx.BatchNorm, momentum=0.0)


def stats_of(batch):
    """Of one batch, at the averaged parameters."""
    served(batch)
    return nnx.as_pure(nnx.state(served, nnx.BatchStat))


batches = [x_train[rng.permutation(len(x_train))[:256]] for _ in range(10)]
nnx.update(served, optax_adaptive.recompute_batch_stats(stats_of, batches))
served.eval()
accuracy = np.mean(served(x_test).argmax(-1) == y_test)
print(f"test accuracy after: {accuracy:.1%}")
