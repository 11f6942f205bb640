"""What importing the library does, and does not do."""

import subprocess
import sys

import optax_adaptive

ALLOWED = """
import sys
import jax, jax.numpy, numpy, optax
before = {name.partition(".")[0] for name in sys.modules}
import optax_adaptive, optax_adaptive.integrations
after = {name.partition(".")[0] for name in sys.modules}
print(sorted(after - before - {"optax_adaptive"} - set(sys.stdlib_module_names)))
"""

# jax refuses this once a backend has started; so does jax.distributed.initialize.
NO_BACKEND = """
import jax, optax_adaptive
jax.config.update("jax_num_cpu_devices", 3)
print(jax.local_device_count("cpu"))
"""


def output_of(program):
    return subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    ).stdout.strip()


def test_the_core_imports_jax_optax_and_numpy_alone():
    assert output_of(ALLOWED) == "[]"


def test_importing_starts_no_backend():
    assert output_of(NO_BACKEND) == "3"


def test_public_names_are_there_and_documented():
    for module in (optax_adaptive, optax_adaptive.controllers, optax_adaptive.rl):
        assert sorted(module.__all__) == list(module.__all__)
        for name in module.__all__:
            assert getattr(module, name).__doc__


def test_making_a_transformation_starts_no_backend():
    make = "optax_adaptive.autotune(optax.adam(1e-3), interpolate=True)"
    program = NO_BACKEND.replace(
        "import jax, optax_adaptive", f"import jax, optax, optax_adaptive\n{make}"
    )
    assert output_of(program) == "3"
