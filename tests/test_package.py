"""Wheel and sdist hold what they must, and work at both ends of what is supported."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import optax_adaptive
from tests.helpers import code_blocks

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
NEEDED = (
    "py.typed",
    "controllers/learned/weights.json",
    "controllers/online/prior.json",
)

pytestmark = pytest.mark.slow


def run(*command, cwd):
    """Its output; neither this checkout nor what is installed here is seen there."""
    # Nor are flags of these tests for XLA, which other versions do not know.
    hidden = ("PYTHONPATH", "VIRTUAL_ENV", "XLA_", "JAX_")
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(hidden)
    }
    ran = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=1200,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The folder with both."""
    folder = tmp_path_factory.mktemp("built")
    run(sys.executable, "-m", "build", "--outdir", folder, ROOT, cwd=folder)
    return folder


def environment(interpreter, folder, *requirements):
    """A new virtual environment's Python, with nothing but these and what they need."""
    run(interpreter, "-m", "venv", folder, cwd=folder.parent)
    python = folder / "bin" / "python"
    run(python, "-m", "pip", "install", "--quiet", *requirements, cwd=folder)
    return python


def requirements():
    """Those of the library, and of README's block in Flax."""
    of_block = ("flax", "scikit-learn")
    examples = PROJECT["optional-dependencies"]["examples"]
    mine = PROJECT["dependencies"]
    return mine + [one for one in examples if one.startswith(of_block)]


LOWEST = [requirement.replace(">=", "==") for requirement in requirements()]
# The newest Python that this machine has.
NEWEST = next(filter(shutil.which, ("python3.13", "python3.12", sys.executable)))


def check(python, folder):
    """README's blocks, each a file of its own, and the library's files as installed."""
    script = folder / "readme.py"
    for block in code_blocks.blocks(ROOT / "README.md"):
        script.write_text(block.source)
        assert "scale" in run(python, script, cwd=folder)
    code = "import optax_adaptive as o; print(o.__file__, o.__version__)"
    file, version = run(python, "-c", code, cwd=folder).split()
    assert version == optax_adaptive.__version__
    assert folder in Path(file).parents
    missing = [name for name in NEEDED if not (Path(file).parent / name).exists()]
    assert not missing


@pytest.mark.parametrize(
    ("interpreter", "versions"),
    [(sys.executable, LOWEST), (NEWEST, requirements())],
    ids=["lowest", "newest"],
)
def test_the_wheel_in_an_empty_environment(built, tmp_path, interpreter, versions):
    (wheel,) = built.glob("*.whl")
    check(environment(interpreter, tmp_path / "venv", wheel, *versions), tmp_path)


def test_the_sdist_holds_the_project(built, tmp_path):
    (sdist,) = built.glob("*.tar.gz")
    names = run("tar", "tzf", sdist, cwd=tmp_path).split()
    inside = {name.partition("/")[2] for name in names}
    wanted = [
        "mkdocs.yml",
        "docs/index.md",
        "tests/conftest.py",
        "examples/quickstart.py",
    ]
    wanted += [f"optax_adaptive/{name}" for name in NEEDED]
    assert not [name for name in wanted if name not in inside]
    unpacked = tmp_path / "unpacked"
    run(
        *(sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"),
        *("--target", unpacked, sdist),
        cwd=tmp_path,
    )
    assert (unpacked / "optax_adaptive" / NEEDED[0]).exists()


def test_what_is_supported_is_stated():
    stated = re.search(r"^Python .*newer\.$", (ROOT / "README.md").read_text(), re.M)
    assert stated
    for requirement in (PROJECT["requires-python"], *PROJECT["dependencies"]):
        name, version = re.fullmatch(r"(\w*)>=([\d.]+)", requirement).groups()
        assert f"{name or 'Python'} {version}" in stated[0]
