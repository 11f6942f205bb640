"""NumPyro: variational inference without a learning rate to choose.

    python examples/minimal/svi.py

Bayesian logistic regression on handwritten digits. NumPyro hands the loss, which is
minus the evidence lower bound (ELBO), on to the optimizer: there is nothing to adapt.
"""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import optax
from numpyro import distributions as dist
from numpyro.infer import SVI, Predictive, Trace_ELBO
from numpyro.infer.autoguide import AutoNormal
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import optax_adaptive

images, labels = load_digits(return_X_y=True)
images = (images / 16).astype(np.float32)
x_train, x_test, y_train, y_test = map(
    jnp.asarray, train_test_split(images, labels, test_size=360, random_state=0)
)


def model(x, y):
    """Digits (N,) by images (N, 64), of which each step sees 64."""
    weights = numpyro.sample("weights", dist.Normal(0, 1).expand([64, 10]).to_event(2))
    biases = numpyro.sample("biases", dist.Normal(0, 1).expand([10]).to_event(1))
    with numpyro.plate("images", len(x), subsample_size=64):
        logits = jnp.dot(numpyro.subsample(x, event_dim=1), weights) + biases
        digits = numpyro.subsample(y, event_dim=0)
        numpyro.sample("digit", dist.CategoricalLogits(logits), obs=digits)


def accuracy(params):
    """On the test images, by the mean of 50 samples of the posterior."""
    posterior = Predictive(guide, params=params, num_samples=50)
    samples = posterior(jax.random.key(1))
    logits = x_test @ samples["weights"] + samples["biases"][:, None]
    return float((jax.nn.softmax(logits).mean(0).argmax(-1) == y_test).mean())


guide = AutoNormal(model)
tx = optax_adaptive.autotune(optax.adam(1e-6))
svi = SVI(model, guide, tx, Trace_ELBO())
start = svi.init(jax.random.key(0), x_train, y_train)
print(f"test accuracy before: {accuracy(svi.get_params(start)):.1%}")

result = svi.run(
    jax.random.key(0), 1200, x_train, y_train, progress_bar=False, init_state=start
)
losses = result.losses.reshape(-1, 400).mean(1)
print("minus ELBO, mean of 400 steps:", ", ".join(f"{loss:.0f}" for loss in losses))

# The same state with the average of the parameters: to sample, evaluate and save.
step, (params, opt_state) = result.state.optim_state
params = optax_adaptive.eval_params(opt_state, params)
averaged = result.state._replace(optim_state=(step, (params, opt_state)))
print(f"lr_scale {optax_adaptive.lr_scale(opt_state):.3g}")
print(f"test accuracy after: {accuracy(svi.get_params(averaged)):.1%}")
