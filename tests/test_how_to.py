"""The pages of docs/how-to run as they stand, with the real libraries, and train."""

from pathlib import Path

import jax
import pytest

from tests.helpers import code_blocks

PAGES = Path(__file__).parents[1] / "docs" / "how-to"
# The least test accuracy of what a page trains, by the names that it gives it.
TRAINED = {
    "batch_norm": {"accuracy": 0.9},
    "clipping_and_weight_decay": {"accuracy": 0.9},
    "equinox": {"accuracy": 0.9},
    "fine_tuning": {"accuracy": 0.8},
    "gradient_accumulation": {"accuracy": 0.9},
    "linen": {"accuracy": 0.9},
    "logging": {},
    "many_devices": {"accuracy": 0.9},
    "mixed_precision": {"accuracy_bf16": 0.9, "accuracy_f16": 0.9},
    "nnx": {"accuracy": 0.9},
    "numpyro": {"accuracy": 0.85},
    "per_group_rates": {"accuracy": 0.9, "accuracy_of_rules": 0.9},
    "saving": {"accuracy": 0.9},
    "validation": {"accuracy": 0.9, "test_accuracy": 0.85},
    "without_value": {"closing": 0.9, "sent": 0.9, "observed": 0.9},
}


@pytest.fixture(autouse=True)
def as_users_run_it(tmp_path, monkeypatch):
    """The strictness of the library's own tests is not asked of models."""
    monkeypatch.chdir(tmp_path)
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


def test_every_page_is_here():
    assert {page.stem for page in PAGES.glob("*.md")} == set(TRAINED)


@pytest.mark.slow
@pytest.mark.parametrize("name", TRAINED)
def test_the_blocks_run_and_train(name):
    page, names = PAGES / f"{name}.md", {}
    for block in code_blocks.blocks(page):
        code_blocks.execute(page, block.source, names)
    for result, least in TRAINED[name].items():
        assert names[result] >= least
