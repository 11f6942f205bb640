"""What the tests of the examples share: scripts as processes, and the real data."""

import os

import jax
import pytest
from jax.experimental.compilation_cache import compilation_cache

from data import prepared


@pytest.fixture(autouse=True)
def as_users_run_it():
    """The strictness of the library's own tests is not asked of models."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


@pytest.fixture(autouse=True, scope="session")
def compiled(tmp_path_factory):
    """What one script has compiled, the next reads; JAX here has read its settings."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent  # of all workers; without them, of all sessions
    folder = folder / "compiled"
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(os.environ, "JAX_COMPILATION_CACHE_DIR", str(folder))
        patch.setitem(os.environ, "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.3")
        yield folder


@pytest.fixture
def compiled_once(compiled):
    """What a test compiles again, or another has, it reads from that folder."""
    names = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")
    before = [getattr(jax.config, name) for name in names]
    for name, value in zip(names, (str(compiled), 0.3), strict=True):
        jax.config.update(name, value)
    compilation_cache.reset_cache()
    yield
    for name, value in zip(names, before, strict=True):
        jax.config.update(name, value)
    compilation_cache.reset_cache()


@pytest.fixture
def prepared_data():
    """The folder that holds CIFAR-10 and IMDB as TFDS prepares them."""
    folder = prepared.default_dir()
    if not (folder / "cifar10").exists():
        pytest.skip(f"no prepared data in {folder}: OPTAX_ADAPTIVE_DATA names another")
    return folder
