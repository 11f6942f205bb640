"""What the tests of the examples share: scripts as processes, and the real data."""

import os
from pathlib import Path

import jax
import pytest

from tests.examples.run import ROOT


@pytest.fixture(autouse=True)
def as_users_run_it():
    """The strictness of the library's own tests is not asked of models."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


@pytest.fixture
def prepared_data():
    """The folder that holds CIFAR-10 and IMDB as TFDS prepares them."""
    named = os.environ.get("OPTAX_ADAPTIVE_DATA")
    folder = Path(named) if named else ROOT.parent / "shared" / "tfds"
    if not (folder / "cifar10").exists():
        pytest.skip(f"no prepared data in {folder}: OPTAX_ADAPTIVE_DATA names another")
    return folder
