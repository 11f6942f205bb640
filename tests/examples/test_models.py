"""Parameter counts are the published ones; losses are float32 in every dtype."""

from functools import partial

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

import lstm_electricity
import lstm_sentiment
import mlp_mnist
import resnet18_cifar
import transformer_sentiment
import vgg16_cifar
from training import loop

IMAGES = {"shape": (32, 32, 3), "classes": 10, "mean": (0.5,) * 3, "std": (0.5,) * 3}
DIGITS = {"shape": (28, 28, 1), "classes": 10, "mean": (0.5,), "std": (0.5,)}
WORDS = {"vocabulary": 100, "classes": 2}


def shapes(make):
    return nnx.eval_shape(lambda: make(nnx.Rngs(0)))


def count(model, kind=nnx.Param):
    return sum(leaf.size for leaf in jax.tree.leaves(nnx.state(model, kind)))


def test_mlp():
    model = shapes(lambda rngs: mlp_mnist.MLP(DIGITS, mlp_mnist.Config(), rngs))
    assert count(model) == 784 * 128 + 128 + 128 * 64 + 64 + 64 * 10 + 10


def test_resnet18():
    config = resnet18_cifar.Config()
    model = shapes(lambda rngs: resnet18_cifar.ResNet18(IMAGES, config, rngs))
    assert count(model) == 11_173_962


def test_vgg16():
    config = vgg16_cifar.Config()
    model = shapes(lambda rngs: vgg16_cifar.VGG16(IMAGES, config, rngs))
    assert count(model.convs) == 14_714_688
    assert count(model) == 14_714_688 + 2 * 4224 + 512 * 10 + 10


def test_bert_base():
    config = transformer_sentiment.Config(
        width=768, layers=12, heads=12, length=512, norm="post"
    )
    info = {"vocabulary": 30_522, "classes": 2}
    model = shapes(lambda rngs: transformer_sentiment.Encoder(info, config, rngs))
    # BERT-base is 109,482,240 with two segments' embeddings and no classifier.
    assert count(model) == 109_482_240 - 2 * 768 + 768 * 2 + 2


def small(name):
    """A small model of each script, its function of a batch, and a batch."""
    images = {"image": jnp.zeros((2, 32, 32, 3), jnp.uint8)}
    tokens = {"tokens": jnp.array([[2, 3, 4, 0], [2, 5, 6, 7]])}
    label = {"label": jnp.zeros(2, jnp.int32)}
    day = {
        "history": jnp.zeros((2, 8, 2)),
        "week_before": jnp.zeros((2, 48)),
        "target": jnp.zeros((2, 48)),
        "phase": jnp.zeros(2),
        "unit": jnp.ones(2),
    }
    return {
        "mlp": (mlp_mnist, "MLP", IMAGES, images | label),
        "resnet": (resnet18_cifar, "ResNet18", IMAGES, images | label),
        "vgg": (vgg16_cifar, "VGG16", IMAGES, images | label),
        "lstm": (lstm_sentiment, "LSTMClassifier", WORDS, tokens | label),
        "transformer": (transformer_sentiment, "Encoder", WORDS, tokens | label),
        "forecaster": (lstm_electricity, "Forecaster", None, day),
    }[name]


NAMES = ("mlp", "resnet", "vgg", "lstm", "transformer", "forecaster")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", NAMES)
def test_loss_and_parameters_are_float32(name, dtype):
    script, model_name, info, batch = small(name)
    config = script.Config(width=8, dtype=dtype)
    given = () if info is None else (info,)

    def make_and_run():
        model = getattr(script, model_name)(*given, config, rngs=nnx.Rngs(0))
        return script.per_example(model, batch, nnx.Rngs(0)), nnx.state(model)

    values, state = jax.eval_shape(make_and_run)
    assert all(v.shape == (2,) and v.dtype == jnp.float32 for v in values.values())
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(state))


def test_padding_changes_nothing():
    config = transformer_sentiment.Config(width=8, heads=2, length=8, layers=1)
    encoder = partial(transformer_sentiment.Encoder, WORDS, config)
    config = lstm_sentiment.Config(width=8)
    lstm = partial(lstm_sentiment.LSTMClassifier, WORDS, config)
    for make in (encoder, lstm):
        model = loop.create(make, seed=0)
        model.eval()
        short = jnp.array([[2, 5, 6, 7]])
        padded = jnp.pad(short, ((0, 0), (0, 3)))
        run = nnx.jit(lambda model, tokens: model(tokens, nnx.Rngs(0)))
        a, b = run(model, short), run(model, padded)
        assert jnp.allclose(a, b, atol=1e-6)
