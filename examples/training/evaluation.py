"""Evaluation: means over a split, of averaged parameters where a method has them."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import Mesh

import optax_adaptive
from data import dataset
from data.dataset import Arrays, Dataset
from methods.method import Method
from training import batches, flags
from training.batches import Prefetch

# Training batches whose batch-norm statistics are averaged.
STATISTICS_BATCHES = 20


def one_at_a_time(values: Any) -> Any:
    """On a CPU, waits for them: XLA lets a device of it have 32 computations under way.

    Where more are sent, one device may wait for its turn while the others wait for it
    in an all-reduce, until XLA ends the process.
    """
    return jax.block_until_ready(values) if jax.default_backend() == "cpu" else values


class Evaluation:
    """Means of loss and metrics over a split, of the parameters to evaluate."""

    def __init__(
        self,
        config: flags.RunConfig,
        data: Dataset,
        graphdef: Any,
        method: Method,
        per_example: Callable[..., dict[str, jax.Array]],
        mesh: Mesh,
    ):
        """Compiles on first use."""
        self.config, self.data, self.mesh = config, data, mesh
        self.averages = method.averages

        def batch_statistics(params, statistics, chunk):
            # The batch's own statistics, and nothing of what training left: after a
            # blow-up that may be nan, and 0 * nan is nan too.
            zeros = jax.tree.map(jnp.zeros_like, statistics)
            model = nnx.merge(graphdef, params, zeros, copy=True)
            model.set_attributes(momentum=0.0, raise_if_not_found=False)
            batch = jax.tree.map(lambda array: array[0], chunk)
            per_example(model, batch, nnx.Rngs(0))
            return nnx.state(model, nnx.Not(nnx.Param))

        def sums(params, statistics, chunk):
            model = nnx.merge(graphdef, params, statistics, copy=True)
            model.eval()
            batch = jax.tree.map(lambda array: array[0], chunk)
            values = per_example(model, batch, nnx.Rngs(0))
            return {n: jnp.sum(v * batch["weight"]) for n, v in values.items()}

        self._eval_params = jax.jit(method.eval_params)
        self._batch_statistics = jax.jit(batch_statistics)
        self._sums = jax.jit(sums)

    def __call__(self, state: Any, epoch: int, split: Arrays) -> dict[str, float]:
        """Evaluates, with batch-norm statistics of the parameters evaluated."""
        return self.means(*self.served(state, epoch), split)

    def served(self, state: Any, epoch: int) -> tuple[Any, Any]:
        """The parameters to evaluate, and batch-norm statistics of them."""
        params, statistics = state.params, state.statistics
        if self.averages:
            params = self._eval_params(state.opt_state, params)
        # For every method, so that none is judged by statistics that lag.
        if jax.tree.leaves(statistics):
            few = self._statistics_chunks(epoch)
            of_batch = partial(self._batch_statistics, params, statistics)
            statistics = optax_adaptive.recompute_batch_stats(
                lambda chunk: one_at_a_time(of_batch(chunk)), few
            )
        return params, statistics

    def means(self, params: Any, statistics: Any, split: Arrays) -> dict[str, float]:
        """Of loss and metrics, over a split."""
        chunks = batches.eval_batches(split, self.data.prepare, self.config.batch_size)
        totals: dict[str, Any] = {}
        for chunk in Prefetch(chunks, self.mesh):
            one_at_a_time(totals)
            for name, value in self._sums(params, statistics, chunk).items():
                totals[name] = totals.get(name, 0) + value
        return {n: float(v) / dataset.size(split) for n, v in totals.items()}

    def _statistics_chunks(self, epoch: int) -> Iterator[dict[str, jax.Array]]:
        config = self.config
        chunks = batches.train_chunks(
            self.data, config.seed, epoch, 0, config.batch_size, chunk=1
        )
        short = (c for _, c in zip(range(STATISTICS_BATCHES), chunks, strict=False))
        return iter(Prefetch(short, self.mesh))
