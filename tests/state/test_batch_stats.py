"""recompute_batch_stats: a mean over batches, in float32."""

import jax.numpy as jnp
import numpy as np
import pytest

import optax_adaptive


def test_batch_stats_are_the_mean_over_batches():
    batches = [jnp.arange(4.0) + i for i in range(5)]
    stats = optax_adaptive.recompute_batch_stats(
        lambda x: {"mean": x.mean(), "var": x.var()}, batches
    )
    assert float(stats["mean"]) == pytest.approx(3.5)
    assert float(stats["var"]) == pytest.approx(1.25)
    with pytest.raises(ValueError, match="return the statistics .* returned None"):
        optax_adaptive.recompute_batch_stats(lambda x: None, batches)
    with pytest.raises(ValueError, match="at least one batch"):
        optax_adaptive.recompute_batch_stats(lambda x: x, [])


def test_batch_stats_are_averaged_in_float32_and_keep_their_dtype():
    batches = [jnp.bfloat16(x) for x in [1.0] + 19 * [1.01]]
    stats = optax_adaptive.recompute_batch_stats(lambda batch: batch, batches)
    assert stats.dtype == jnp.bfloat16
    mean = np.mean([float(batch) for batch in batches])
    assert abs(float(stats) - mean) < 0.004  # half of bfloat16's step
    counts = optax_adaptive.recompute_batch_stats(jnp.int32, [1, 2, 3])
    assert counts.dtype == jnp.int32 and counts == 2
