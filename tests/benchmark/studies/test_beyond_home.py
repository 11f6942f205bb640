"""The trainings are what they say, and a method leaves the frozen alone."""

from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from benchmark.studies.beyond_home import methods
from benchmark.studies.beyond_home.tasks import (
    FAMILIES,
    TRAININGS,
    diffusion,
    finetuning,
    forms,
    gpt,
    images,
    long,
    physics,
    text,
    training,
    vision,
)
from benchmark.tasks.task import SPLITS
from data import prepared

TINY = gpt.Size(width=16, depth=1, length=16, batch=4)


def made_up_images():
    """In the place of CIFAR-10: stripes, one way for each class."""
    random = np.random.RandomState(0)
    labels = np.arange(120, dtype=np.int32) % 10
    waves = np.sin(np.arange(16) * (1 + labels[:, None]) / 3)
    stripes = np.broadcast_to(waves[:, :, None, None], (120, 16, 16, 3))
    noisy = stripes + 0.1 * random.normal(size=stripes.shape)
    return dict.fromkeys(SPLITS, (noisy.astype(np.float32), labels))


@lru_cache
def pretrained_perceptron():
    return finetuning.pretrained_perceptron(steps=100)


@pytest.fixture
def stripes(monkeypatch):
    monkeypatch.setattr(images, "cifar", lambda data_dir: made_up_images())
    finetuning.pretrained_convolution.cache_clear()
    yield
    finetuning.pretrained_convolution.cache_clear()


def make(name):
    """A training of each sort, whose pretraining is cut short."""
    network, _, form = name.partition("_")
    if name == "gpt":
        return gpt.gpt("optax", TINY, 100)
    if network == "perceptron":
        return finetuning.fine_tuned(form, pretrained_perceptron())
    if network == "convolution":
        short = finetuning.pretrained_convolution(None, steps=2)
        return finetuning.fine_tuned(form, short)
    makes = {
        "diffusion": diffusion.diffusion,
        "poisson": physics.poisson,
        "burgers": physics.burgers,
        "vision": lambda: vision.vision_transformer(None),
        "lstm": lambda: long.LONG["lstm_10k"](None),
    }
    return makes[name]()


@lru_cache
def losses_of(name, steps=30):
    """First parameters, their metrics, and the losses of the steps that follow."""
    subject = make(name)
    task, tx = subject.task, subject.optimizer(subject.rate)

    @jax.jit
    def train(key):
        def step(carry, key):
            params, state = carry
            loss, grads = jax.value_and_grad(task.loss)(params, key)
            updates, state = tx.update(grads, state, params)
            return (optax.apply_updates(params, updates), state), loss

        params = task.init(key)
        metrics = [task.evaluate(params, split) for split in SPLITS]
        keys = jax.random.split(key, steps)
        _, losses = jax.lax.scan(step, (params, tx.init(params)), keys)
        return params, jnp.stack(metrics), losses

    return train(jax.random.key(0))


LEARN = ("gpt", "perceptron_full", "perceptron_low_rank", "diffusion", "poisson")


@pytest.mark.parametrize("name", LEARN)
def test_learns(name):
    _, metrics, losses = losses_of(name)
    assert metrics.shape == (3,) and np.isfinite(metrics).all()
    assert losses[-5:].mean() < 0.95 * losses[:5].mean()


@pytest.mark.parametrize("name", ("convolution_full", "vision", "burgers", "lstm"))
def test_has_scalar_losses_and_gradients_like_its_parameters(name, stripes):
    subject = make(name)

    def first(key):
        params = subject.task.init(key)
        loss, grads = jax.value_and_grad(subject.task.loss)(params, key)
        metrics = [subject.task.evaluate(params, split) for split in SPLITS]
        return params, grads, (loss, *metrics)

    params, grads, scalars = jax.eval_shape(first, jax.random.key(0))
    assert jax.tree.map(jnp.shape, params) == jax.tree.map(jnp.shape, grads)
    assert {scalar.shape for scalar in scalars} == {()}
    assert {scalar.dtype for scalar in scalars} == {jnp.dtype("float32")}


def test_names_say_what_there_is():
    assert len(TRAININGS) == sum(map(len, FAMILIES.values())) == 28
    assert len(FAMILIES["fine-tuning"]) == 9
    with pytest.raises(SystemExit, match=r"prepare_data.py cifar10"):
        TRAININGS["vision_transformer"](prepared.default_dir() / "nothing")


def test_the_gpts_have_the_sizes_of_their_names():
    for package, size, millions in (
        ("sklearn", gpt.Size(64, 2, 128, 8), 0.1),
        ("scipy", gpt.Size(128, 2, 96, 8), 0.4),
        ("jax", gpt.Size(128, 4, 64, 12), 0.8),
    ):
        del package
        params = jax.eval_shape(lambda key, s=size: gpt.init(s, key), jax.random.key(0))
        count = sum(leaf.size for leaf in jax.tree.leaves(params))
        assert round(count / 1e6, 1) == millions


def test_a_gpt_does_not_see_what_comes():
    params = gpt.init(TINY, jax.random.key(0))
    x = jnp.arange(16)[None] % 7
    logits = jax.jit(gpt.logits)
    both = [logits(params, x), logits(params, x.at[0, 9:].set(5))]
    np.testing.assert_allclose(both[0][0, :9], both[1][0, :9], atol=1e-6)
    assert not np.allclose(both[0][0, 9:], both[1][0, 9:])


def test_text_is_of_separate_files(tmp_path, monkeypatch):
    paths = [tmp_path / name for name in "ABCDEFGH"]
    for path in paths:
        path.write_text(path.name * 1000)
    monkeypatch.setattr(text, "files", lambda package: paths)
    parts = text.read("made up", most=6000)
    letters = {
        name: "".join(chr(31 + code) for code in np.unique(part) if code)
        for name, part in parts.items()
    }
    assert letters == {"validation": "A", "test": "B", "train": "CDEF"}
    assert parts["train"].size == 4003  # with the newlines between files


def test_files_are_in_one_order_and_no_tests():
    found = text.files("optax")
    assert found == text.files("optax") != sorted(found)
    assert len(found) > 20 and not any("test" in path.name for path in found)


def test_few_images_are_evaluated_in_copies():
    few, labels = images.evaluated(np.arange(300.0)[:, None], np.arange(300))
    assert few.shape == (900, 1) and (np.bincount(labels) == 3).all()
    many, labels = images.evaluated(np.arange(1200.0)[:, None], np.arange(1200))
    assert many.shape == (1000, 1) and (np.bincount(labels) == 1).all()
    np.testing.assert_array_equal(many[:, 0], labels)


def test_characters_by_hand():
    assert text.as_numbers("\n ~é\t").tolist() == [0, 1, 95, 32, 1]


def test_decay_is_of_matrices_alone():
    tx = training.language_adamw(1.0)
    params = {"matrix": jnp.ones((2, 2)), "gain": jnp.ones(2)}
    zeros = jax.tree.map(jnp.zeros_like, params)
    updates, _ = tx.update(zeros, tx.init(params), params)
    np.testing.assert_allclose(updates["matrix"], -0.1)
    np.testing.assert_array_equal(updates["gain"], 0.0)


def test_low_rank_begins_with_the_outputs_of_the_network():
    base = pretrained_perceptron().base
    key = jax.random.key(3)
    params = forms.first_params("low_rank", base, key)
    whole = forms.network_params("low_rank", base, params)
    expected = forms.first_params("full", base, key)  # with the same fresh layer
    x = images.digits()["validation"][0][:20]
    outputs = finetuning.perceptron(whole, x)
    np.testing.assert_allclose(outputs, finetuning.perceptron(expected, x), atol=1e-6)
    # And its adapters are of rank 4, on both matrices that are kept.
    assert len(params["adapters"]) == 2
    moved = jax.tree.map(lambda leaf: leaf + 1.0, params)
    whole = forms.network_params("low_rank", base, moved)
    difference = whole["first"]["weights"] - base.params["first"]["weights"]
    assert np.linalg.matrix_rank(difference) <= forms.RANK
    assert np.abs(difference).max() > 0.5


@lru_cache
def ends_of(name, method, steps=60):
    """First parameters and the pair that a method ends with."""
    subject = make(name)

    @jax.jit
    def train(key):
        how = methods.build(subject, method, 1e-2, steps)

        def step(carry, key):
            params, state = carry
            loss, grads = jax.value_and_grad(subject.task.loss)(params, key)
            updates, state = how.optimizer.update(grads, state, params, value=loss)
            return (optax.apply_updates(params, updates), state), None

        params = subject.task.init(key)
        start = params, how.optimizer.init(params)
        (last, state), _ = jax.lax.scan(step, start, jax.random.split(key, steps))
        return params, how.eval_params(state, last)

    return train(jax.random.key(0))


@pytest.mark.parametrize(
    "method",
    ("constant_warmup", pytest.param("autotune_anytime", marks=pytest.mark.slow)),
)
def test_frozen_layers_do_not_move(method):
    first, pair = ends_of("perceptron_last", method)
    for params in pair:
        for layer in ("weights", "bias"):
            np.testing.assert_array_equal(params["first"][layer], first["first"][layer])
        for name in ("second", "out"):
            assert not np.array_equal(params[name]["weights"], first[name]["weights"])


def test_the_pair_is_the_last_and_its_average():
    _, (last, average) = ends_of("perceptron_last", "constant_warmup")
    assert not np.array_equal(last["out"]["weights"], average["out"]["weights"])


def test_averaging_does_not_change_the_training():
    subject = make("perceptron_full")
    key = jax.random.key(0)
    bare = subject.optimizer(methods.schedule("cosine", 1e-2, 60))

    @jax.jit
    def train(key):
        def step(carry, key):
            params, state = carry
            updates, state = bare.update(
                jax.grad(subject.task.loss)(params, key), state
            )
            return (optax.apply_updates(params, updates), state), None

        params = subject.task.init(key)
        start = params, bare.init(params)
        return jax.lax.scan(step, start, jax.random.split(key, 60))[0][0]

    _, (last, _) = ends_of("perceptron_full", "cosine")
    expected = train(key)["out"]["weights"]
    np.testing.assert_allclose(last["out"]["weights"], expected, rtol=1e-3, atol=1e-5)


def test_schedules_by_hand():
    rates = [methods.schedule("linear_warmup", 1.0, 100)(i) for i in (0, 1, 2, 51, 100)]
    np.testing.assert_allclose(rates, [1 / 3, 2 / 3, 1.0, 0.5, 0.0], atol=1e-6)
    rates = [methods.schedule("cosine", 2.0, 100)(i) for i in (0, 50, 100)]
    np.testing.assert_allclose(rates, [2.0, 1.0, 0.0], atol=1e-6)
    rates = [methods.schedule("constant_warmup", 2.0, 100)(i) for i in (0, 2, 99)]
    np.testing.assert_allclose(rates, [2 / 3, 2.0, 2.0], rtol=1e-6)
    with pytest.raises(ValueError, match="no method 'cosine_cold', but cosine"):
        methods.build(None, "cosine_cold", 1.0, 100)
