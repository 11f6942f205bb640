"""README: its Python blocks run when pasted into a file, and it is short."""

import re
from pathlib import Path

import jax
import numpy as np
import pytest

import optax_adaptive
from tests.helpers import code_blocks

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PAGES = [README, *(ROOT / name for name in ("CONTRIBUTING.md", "CHANGELOG.md"))]
LINK = re.compile(r"\]\((?!https?:)([^)#]+)")


@pytest.fixture(scope="module")
def ran():
    """The names that each block leaves, run alone."""
    results = []
    with jax.numpy_dtype_promotion("standard"):
        for block in code_blocks.blocks(README):
            results.append({"__name__": "__main__"})
            code_blocks.execute(README, block.source, results[-1])
    return results


@pytest.mark.usefixtures("standard_promotion")
def test_the_block_in_plain_optax_trains(ran):
    plain, _ = ran
    # The best a of tanh(a x) for sin(x), x from a normal distribution.
    x, factors = np.linspace(-5, 5, 1001), np.linspace(0.5, 1.5, 101)
    errors = (np.tanh(factors[:, None] * x) - np.sin(x)) ** 2
    best = factors[np.argmin(errors @ np.exp(-(x**2) / 2))]
    np.testing.assert_allclose(plain["averaged"].diagonal(), best, atol=0.05)
    assert optax_adaptive.summary(plain["opt_state"])["phase"] == 3


def test_the_block_in_nnx_trains(ran):
    assert ran[1]["accuracy"] > 0.85


def test_it_is_short():
    assert len(README.read_text().splitlines()) <= 150


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    links = LINK.findall(page.read_text())
    assert links or page != README
    assert not [link for link in links if not (page.parent / link).exists()]
