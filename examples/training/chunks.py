"""What is trained, and several steps of it in one compiled call."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax.sharding import Mesh

import optax_adaptive
from methods.method import Method
from training import devices

Batch = dict[str, jax.Array]
Values = dict[str, jax.Array]  # loss and metrics by name


class TrainState(NamedTuple):
    """All that a run must remember."""

    step: jax.Array  # shape=(), dtype=int32
    params: Any  # nnx.State
    statistics: Any  # nnx.State of batch norm; empty for most models
    opt_state: optax.OptState
    # Statistics that belong to the copy which a rollback returns to; () for none
    healthy: Any = ()


# (model, batch, rngs) -> loss and metrics of each example, (B,) each
PerExample = Callable[[Any, Batch, nnx.Rngs], Values]
# (graphdef, optimizer, key, state, batch) -> the next state, loss and metrics
TrainStep = Callable[..., tuple[TrainState, Values]]


def make_train_step(per_example: PerExample) -> TrainStep:
    """A step on the mean loss of a batch."""

    def train_step(graphdef, optimizer, key, state: TrainState, batch: Batch):
        def loss_fn(params):
            model = nnx.merge(graphdef, params, state.statistics, copy=True)
            rngs = nnx.Rngs(dropout=jax.random.fold_in(key, state.step))
            values = jax.tree.map(jnp.mean, per_example(model, batch, rngs))
            return values["loss"], (values, nnx.state(model, nnx.Not(nnx.Param)))

        grads, (values, statistics) = jax.grad(loss_fn, has_aux=True)(state.params)
        # The value is all that a rule needs to be given.
        updates, opt_state = optimizer.update(
            grads, state.opt_state, state.params, value=values["loss"]
        )
        params = optax.apply_updates(state.params, updates)
        return TrainState(state.step + 1, params, statistics, opt_state), values

    return train_step


def init_state(method: Method, params: Any, statistics: Any, mesh: Mesh) -> TrainState:
    """The first state, a copy on every device.

    Some optimizers keep the first parameters: the copies made here see to it that no
    two leaves share a buffer, which donation forbids.
    """
    state = TrainState(
        jnp.zeros((), jnp.int32),
        params,
        statistics,
        method.optimizer.init(params),
        healthy=statistics if method.rolls_back else (),
    )
    state = jax.tree.map(lambda leaf: np.array(leaf), state)
    return jax.device_put(state, devices.replicated(mesh))


def with_statistics_of_copy(
    method: Method, healthy: Any, state: TrainState
) -> TrainState:
    """After an update: statistics return with params, where the method rolls back."""
    if method.rolls_back:
        healthy, current = optax_adaptive.select_on_rollback(
            state.opt_state, healthy, state.statistics
        )
        state = state._replace(statistics=current)
    return state._replace(healthy=healthy)


def make_run_chunk(
    train_step: TrainStep,
    graphdef: Any,
    build: Callable[[Any], Method],
    rate: float,
    key: jax.Array,
) -> Callable[[TrainState, Batch], tuple[TrainState, Values]]:
    """Compiles several steps into one call; returns the means over them.

    Rate and key are arguments of what is compiled, so that a compilation cache holds it
    for every rate and seed.

    Args:
      train_step: One step.
      graphdef: The model's.
      build: Makes the method from a base rate.
      rate: The base rate.
      key: Of dropout.

    Returns:
      A function of a state, which it donates, and a chunk of batches (K, B, ...).
    """

    def run_chunk(
        rate: jax.Array, key: jax.Array, state: TrainState, chunk: Batch
    ) -> tuple[TrainState, Values]:
        method = build(rate)
        step = partial(train_step, graphdef, method.optimizer, key)

        def body(state: TrainState, batch: Batch) -> tuple[TrainState, Values]:
            before = state.healthy
            state, values = step(state, batch)
            state = with_statistics_of_copy(method, before, state)
            rate = method.learning_rate(state.opt_state, state.step - 1)
            return state, {**values, "learning_rate": jnp.asarray(rate, jnp.float32)}

        if len(next(iter(chunk.values()))) == 1:
            # No loop at all: on CPU, XLA runs convolutions inside one 30 times slower.
            return body(state, jax.tree.map(lambda array: array[0], chunk))
        state, values = jax.lax.scan(body, state, chunk)
        last = values.pop("learning_rate")[-1]
        return state, {**jax.tree.map(jnp.mean, values), "learning_rate": last}

    return partial(jax.jit(run_chunk, donate_argnums=2), jnp.float32(rate), key)
