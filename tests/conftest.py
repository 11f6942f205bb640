"""Strict JAX, eight CPU devices, and reproducible hypothesis for every test.

Nearly all the time goes to compiling, here and in processes that tests start: so it is
without optimizations, but where the fixture ``optimized`` asks for them, with XLA's
older code generator for fusions, which is ready in less than half the time, and without
splitting programs over threads, since the tests keep all cores busy anyway. What is
compiled is kept in ``.jax_cache``, for other processes and later runs: its key is the
program with all options. An entry that is found there counts as compiled all the same
in ``_cache_size()`` and in the events of ``jax.monitoring``.
"""

import gc
import os
from importlib.metadata import version
from pathlib import Path

os.environ.setdefault(
    "JAX_COMPILATION_CACHE_DIR", str(Path(__file__).parents[1] / ".jax_cache")
)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
# Threads of XLA: eight devices that wait for each other take eight, and what one of
# them hands to others needs more, or all wait for ever.
os.environ.setdefault("PJRT_NPROC", "24")
# Versions from 0.12 on have no other fusions, and abort where they are asked for.
os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "")
    + " --xla_cpu_parallel_codegen_split_count=1"
    + " --xla_cpu_use_fusion_emitters=false" * (version("jax") < "0.12")
)

import hypothesis
import jax
import pytest

# A trace leaves many small objects behind, of which few are garbage: to look for it as
# often as Python does takes a twentieth of the time.
gc.set_threshold(100_000, 10, 10)

# It needs libraries that the project does not.
collect_ignore = ["references/traces/record.py"]

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")

hypothesis.settings.register_profile(
    "fixed", deadline=None, derandomize=True, database=None, max_examples=25
)
hypothesis.settings.load_profile("fixed")


@pytest.fixture(scope="module")
def optimized():
    """As users compile, for tests of bits and of what XLA makes of the code.

    Its value are the ``compiler_options`` of ``jax.jit`` that bring new fusions back.
    """
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", False)
    jax.clear_caches()  # what is compiled otherwise rounds otherwise
    yield {"xla_cpu_use_fusion_emitters": True} if jax.__version__ < "0.12" else {}
    jax.config.update("jax_disable_most_optimizations", before)
    jax.clear_caches()


@pytest.fixture
def standard_promotion():
    """Adam mixes integers and floats, as do other optimizers and real trainings."""
    with jax.numpy_dtype_promotion("standard"):
        yield
