"""The sample of gradients that stands for all of them."""

import jax.numpy as jnp
import pytest

from optax_adaptive.signals.update_size import FEW, largest_of_sample

ROWS = FEW // 4


@pytest.mark.parametrize("others", [{}, {"bias": jnp.zeros(8)}])
@pytest.mark.parametrize("row", [0, 3, ROWS // 2])
def test_words_that_are_trained_alone_are_in_the_sample(row, others):
    # Of an embedding of which a batch moves a few rows, beside what is frozen.
    table = jnp.zeros((ROWS, 8)).at[row].set(-2.0)
    assert largest_of_sample({"table": table} | others) == 2.0


def test_what_is_not_finite_in_a_small_leaf_shows():
    kernel = jnp.ones((3, 3, 64, 64))
    assert jnp.isnan(largest_of_sample([kernel, jnp.array([1.0, jnp.nan])]))
