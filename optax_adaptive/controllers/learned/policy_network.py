"""The tiny network of ``learned`` and of the online learners."""

import functools
import json
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from optax_adaptive._controller import Array
from optax_adaptive.controllers.learned import state_features
from optax_adaptive.state.validation import check_array


class PolicyWeights(NamedTuple):
    """A network with one hidden layer of tanh units, and a linear path around it."""

    linear: Array  # shape=(features,), dtype=float32
    hidden: Array  # shape=(features, h), dtype=float32
    hidden_bias: Array  # shape=(h,), dtype=float32
    output: Array  # shape=(h,), dtype=float32
    output_bias: Array  # shape=(), dtype=float32


def shapes(width: int) -> PolicyWeights:
    """Shapes of a network with ``width`` hidden units."""
    size = state_features.SIZE
    leaves: Any = ((size,), (size, width), (width,), (width,), ())
    return PolicyWeights(*leaves)


def score(policy: PolicyWeights, features: Array) -> Array:
    """The action before tanh, for features of shape ``(features,)``."""
    # Products and sums, not dots: their precision is the same on every device.
    hidden = jnp.sum(features[:, None] * policy.hidden, axis=0) + policy.hidden_bias
    linear = jnp.sum(features * policy.linear) + policy.output_bias
    return linear + jnp.sum(jnp.tanh(hidden) * policy.output)


def act(policy: PolicyWeights, features: Array) -> Array:
    """The action in (-1, 1) for features of shape ``(features,)``."""
    return jnp.tanh(score(policy, features))


def checked(weights: PolicyWeights) -> PolicyWeights:
    """The weights in float32, or an error; its width is that of ``output``."""
    if not isinstance(weights, PolicyWeights):
        raise TypeError(f"weights must come from load_weights(), but are {weights!r}")
    width = np.size(weights.output)
    for name, shape in shapes(width)._asdict().items():
        check_array(f"weights.{name}", getattr(weights, name), shape)
    return PolicyWeights(*(jnp.asarray(leaf, jnp.float32) for leaf in weights))


def load_weights(path: Any) -> PolicyWeights:
    """Reads the weights that ``examples/policy/train_policy.py`` wrote.

    Args:
      path: Path of the JSON file: a string, a ``pathlib.Path``, or a package resource.

    Returns:
      The argument ``weights`` of ``learned``: float32 arrays, for ``h`` hidden units of
      the shapes ``(features,)``, ``(features, h)``, ``(h,)``, ``(h,)`` and ``()``.

    Raises:
      FileNotFoundError: If there is no such file.
      ValueError: If it is for other features, or an array is missing or misshapen.

    Example:
      >>> from importlib import resources
      >>> from optax_adaptive import controllers
      >>> folder = resources.files("optax_adaptive.controllers.learned")
      >>> weights = controllers.load_weights(folder / "weights.json")
      >>> rule = controllers.learned(weights=weights)
    """
    weights = from_lists(path, read(path, "weights"))
    checked(weights)
    return weights


def read(path: Any, section: str) -> Any:
    """A section of a JSON file; ValueError if the file is for other features."""
    if isinstance(path, str):
        path = Path(path)
    document = json.loads(path.read_text())
    if not isinstance(document, dict) or section not in document:
        raise ValueError(f"{path} contains no {section!r}")
    if tuple(document.get("features", ())) != state_features.NAMES:
        raise ValueError(f"{path} is for other features: {document.get('features')}")
    return document[section]


def check_contains(path: Any, lists: dict[str, Any], names: tuple[str, ...]) -> None:
    """Raises ValueError if one of ``names`` is missing."""
    missing = set(names) - set(lists)
    if missing:
        raise ValueError(f"{path} lacks the arrays {sorted(missing)}")


def from_lists(path: Any, lists: dict[str, Any]) -> PolicyWeights:
    """The weights in ``path``, by name, not yet checked."""
    check_contains(path, lists, PolicyWeights._fields)
    leaves: Any = (
        np.asarray(lists[name], np.float32) for name in PolicyWeights._fields
    )
    return PolicyWeights(*leaves)


@functools.cache
def shipped_weights() -> PolicyWeights:
    """The policy of the package, read once."""
    return load_weights(
        resources.files("optax_adaptive.controllers.learned") / "weights.json"
    )
