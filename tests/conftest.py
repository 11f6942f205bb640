"""Strict JAX, eight CPU devices, and reproducible hypothesis for every test."""

import os

# Nearly all the time goes to compiling, here and in processes that tests start.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")

import hypothesis
import jax

collect_ignore = ["traces/record.py"]  # needs libraries that the project does not

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")

hypothesis.settings.register_profile(
    "fixed", deadline=None, derandomize=True, database=None, max_examples=25
)
hypothesis.settings.load_profile("fixed")
