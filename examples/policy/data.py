"""Data made from a random key, so that no two draws of a task are the same."""

import argparse
import collections
import functools
import inspect
import json
import logging
import random
import statistics
import subprocess
import threading
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

Array = jax.Array
ALPHABET = " abcdefghijklmnopqrstuvwxyz.,()\n"  # 32 letters; any other is a space


class Split(NamedTuple):
    """Inputs and targets for training and for validation."""

    inputs: Array
    targets: Array
    val_inputs: Array
    val_targets: Array


def _split(inputs: Array, targets: Array, noisy: Array, train: int) -> Split:
    """Labels are noisy in training alone."""
    return Split(inputs[:train], noisy[:train], inputs[train:], targets[train:])


def patterns(key: Array, train: int = 6000, val: int = 512) -> Split:
    """8x8 images of ten classes, three smooth patterns each, shifted and noisy."""
    keys = jax.random.split(key, 9)
    coarse = jax.random.normal(keys[0], (10, 3, 4, 4))
    prototypes = jax.image.resize(coarse, (10, 3, 8, 8), "linear")
    count = train + val
    labels = jax.random.randint(keys[1], (count,), 0, 10)
    images = prototypes[labels, jax.random.randint(keys[2], (count,), 0, 3)]
    shifts = jax.random.randint(keys[3], (count, 2), -1, 2)
    images = jax.vmap(lambda image, by: jnp.roll(image, by, (0, 1)))(images, shifts)
    noise = jax.random.uniform(keys[4], (), minval=0.2, maxval=1.0)
    images += noise * jax.random.normal(keys[5], images.shape)
    flips = jax.random.uniform(keys[6], (), maxval=0.3)
    is_flipped = jax.random.bernoulli(keys[7], flips, labels.shape)
    random_labels = jax.random.randint(keys[8], labels.shape, 0, 10)
    noisy = jnp.where(is_flipped, random_labels, labels)
    return _split(images.reshape(count, 64), labels, noisy, train)


def teacher_classes(key: Array, train: int = 6000, val: int = 512) -> Split:
    """Five classes told apart by a random network of 16 inputs."""
    keys = jax.random.split(key, 4)
    x = jax.random.normal(keys[0], (train + val, 16))
    hidden = jnp.tanh(x @ jax.random.normal(keys[1], (16, 24)) / 2)
    logits = 2 * hidden @ jax.random.normal(keys[2], (24, 5))
    labels = jax.random.categorical(keys[3], logits)
    return _split(x, labels, labels, train)


def teacher_values(key: Array, train: int = 4000, val: int = 512) -> Split:
    """Two values of a random network of 8 inputs of unequal size, with noise."""
    keys = jax.random.split(key, 6)
    sizes = jnp.exp(jax.random.normal(keys[0], (8,)))
    x = sizes * jax.random.normal(keys[1], (train + val, 8))
    hidden = jnp.sin(x @ jax.random.normal(keys[2], (8, 16)) / 2)
    y = hidden @ jax.random.normal(keys[3], (16, 2)) / 2
    noise = jax.random.uniform(keys[4], (), maxval=0.5)
    return _split(x, y, y + noise * jax.random.normal(keys[5], y.shape), train)


def series(key: Array, length: int = 24, ahead: int = 6) -> Split:
    """Windows of three waves and a slow noise; what follows is the target."""
    keys = jax.random.split(key, 5)
    time = jnp.arange(1600.0)
    periods = jnp.exp(jax.random.uniform(keys[0], (3, 1), minval=1.5, maxval=4.0))
    phases = jax.random.uniform(keys[1], (3, 1), maxval=2 * np.pi)
    sizes = jax.random.uniform(keys[2], (3, 1), minval=0.3, maxval=1.0)
    waves = jnp.sum(sizes * jnp.sin(2 * np.pi * time / periods + phases), 0)

    def drift(level, shock):
        level = 0.9 * level + 0.15 * shock
        return level, level

    _, noise = jax.lax.scan(drift, 0.0, jax.random.normal(keys[3], time.shape))
    values = waves + noise
    starts = jnp.arange(1600 - length - ahead)
    inputs = values[starts[:, None] + jnp.arange(length)]
    targets = values[starts[:, None] + length + jnp.arange(ahead)]
    return Split(inputs[:1100], targets[:1100], inputs[1150:], targets[1150:])


@functools.cache
def text() -> np.ndarray:
    """Docstrings of the standard library, as indices of ``ALPHABET``."""
    modules = (argparse, collections, json, logging, random, statistics, subprocess)
    texts = []
    for module in (*modules, threading, functools, inspect, str, dict, int):
        for name in sorted(dir(module)):
            texts.append(inspect.getdoc(getattr(module, name, None)) or "")
    joined = "\n".join(dict.fromkeys(t for t in texts if len(t) > 100)).lower()
    place = {letter: i for i, letter in enumerate(ALPHABET)}
    return np.array([place.get(letter, 0) for letter in joined], np.int32)


def letters(key: Array, length: int = 16) -> Split:
    """Windows of a random stretch of text; the target is each next letter."""
    corpus = jnp.asarray(text())
    stretch = 12_000
    first = jax.random.randint(key, (), 0, corpus.shape[0] - stretch)
    part = jax.lax.dynamic_slice(corpus, (first,), (stretch,))
    return _windows(part, length)


def markov(key: Array, length: int = 20) -> Split:
    """Symbols of a random second-order chain of twelve states."""
    keys = jax.random.split(key)
    logits = 2 * jax.random.normal(keys[0], (12, 12, 12))

    def draw(state, key):
        symbol = jax.random.categorical(key, logits[state])
        return (state[1], symbol), symbol

    start = (jnp.zeros((), jnp.int32), jnp.zeros((), jnp.int32))
    _, symbols = jax.lax.scan(draw, start, jax.random.split(keys[1], 6000))
    return _windows(symbols, length)


def _windows(symbols: Array, length: int) -> Split:
    starts = jnp.arange(0, symbols.shape[0] - length - 1, 3)
    windows = symbols[starts[:, None] + jnp.arange(length + 1)]
    x, y = windows[:, :-1], windows[:, 1:]
    train = int(0.85 * starts.shape[0])
    gap = length // 3 + 1  # no window lies in both parts
    return Split(x[:train], y[:train], x[train + gap :][:256], y[train + gap :][:256])
