"""The training loop: chunks of steps, validation, checkpoints, logs.

A script brings its data, a model, and loss and metrics of each example; see
``mlp_mnist.py``, the shortest.
"""

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax.sharding import Mesh

import optax_adaptive
from data import dataset
from data.dataset import Dataset
from methods import registry
from optax_adaptive import integrations
from training import batches, devices, flags
from training.batches import Prefetch
from training.checkpoints import Workdir
from training.chunks import (
    Batch,
    PerExample,
    TrainState,
    Values,
    init_state,
    make_run_chunk,
    make_train_step,
)
from training.evaluation import Evaluation
from training.logs import Log
from training.plots import plot_run

Means = dict[str, float]  # loss and metrics over a split


def classified(logits: jax.Array, labels: jax.Array) -> Values:
    """Loss and accuracy of each example, (B,) each, of logits (B, classes)."""
    return {
        "loss": optax.softmax_cross_entropy_with_integer_labels(logits, labels),
        "accuracy": (logits.argmax(-1) == labels).astype(jnp.float32),
    }


def fit(
    config: flags.RunConfig,
    data: Dataset,
    model: nnx.Module,
    per_example: PerExample,
    metric: str,
) -> Means:
    """Trains, validates on the way, and tests at the end.

    At the end it also evaluates as many training examples as there are validation
    examples: without augmentation and dropout, so that the two can be compared. What it
    evaluates then, it leaves in the workdir to serve.

    Args:
      config: The script's.
      data: Three splits.
      model: With fresh parameters.
      per_example: Loss and metrics of each example.
      metric: The one to draw.

    Returns:
      Means of loss and metrics on the test split.
    """
    mesh = devices.make_mesh(config.batch_size)
    steps_per_epoch = steps_in_epoch(config, data)
    stops = validation_steps(config, steps_per_epoch)
    steps = stops[-1]
    build = partial(
        registry.build,
        config.method,
        config.optimizer,
        steps=steps,
        steps_per_epoch=steps_per_epoch,
        clip_norm=config.clip_norm,
        seed=config.seed,
    )
    rate = config.learning_rate
    rate = registry.default_rate(config.method) if rate is None else rate
    method = build(rate)
    model.train()
    graphdef, params, statistics = nnx.split(model, nnx.Param, ...)
    state = init_state(method, params, statistics, mesh)
    workdir = Workdir(config) if config.workdir else None
    if workdir is not None:
        state = workdir.restore(state)
    start = int(state.step)
    log = Log(workdir, steps, start, method.decides)
    say_what_runs(log, config, data, params, start, steps)
    key = jax.random.key(config.seed)
    train_step = make_train_step(per_example)
    run_chunk = make_run_chunk(train_step, graphdef, build, rate, key)
    evaluate = Evaluation(config, data, graphdef, method, per_example, mesh)
    for step in [step for step in stops if step > start]:
        clock, first = time.perf_counter(), int(state.step)
        state, waited = train_until(
            step, config, data, mesh, run_chunk, state, log, workdir
        )
        seconds = time.perf_counter() - clock
        if jax.process_count() > 1 and (method.decides or method.rolls_back):
            integrations.check_replicas(state.opt_state)
        values = evaluate(state, first // steps_per_epoch, data.validation)
        opt_state = method.observe(state.opt_state, values["loss"])
        state = state._replace(opt_state=opt_state)
        speed = (step - first) * config.batch_size / seconds
        log.write(
            "validation",
            step,
            **values,
            examples_per_second=round(speed, 1),
            share_waiting_for_data=round(waited / seconds, 4),
        )
        shown = "  ".join(f"{name} {value:.4f}" for name, value in values.items())
        epoch = round(step / steps_per_epoch, 2)
        log.say(f"epoch {epoch:g}: validation {shown}  ({speed:,.0f} examples/s)")
        if workdir is not None:
            workdir.save(step, state)
    served = evaluate.served(state, config.epochs)
    log.write("fit", steps, **evaluate.means(*served, some_of_training(data)))
    values = evaluate.means(*served, data.test)
    log.write("test", steps, **values)
    log.say(
        "test " + "  ".join(f"{name} {value:.4f}" for name, value in values.items())
    )
    if workdir is not None:
        log.say(f"parameters to serve: {workdir.save_served(*served)}")
    log.close()
    if workdir is not None:
        workdir.close()
        if log.path is not None:
            plot_run(log.path, metric, workdir.path / "run.png")
    return values


def some_of_training(data: Dataset) -> dataset.Arrays:
    """As many training examples as there are of validation, from all of them.

    Those of a series are in the order of time, in which its level drifts.
    """
    chosen = np.random.default_rng(0).permutation(dataset.size(data.train))
    chosen = chosen[: dataset.size(data.validation)]
    return {name: array[chosen] for name, array in data.train.items()}


def steps_in_epoch(config: flags.RunConfig, data: Dataset) -> int:
    """Whole batches in the training split, of which there must be one."""
    count = dataset.size(data.train)
    if count < config.batch_size:
        raise SystemExit(
            f"--batch-size {config.batch_size} is more than the {count} training "
            "examples"
        )
    return count // config.batch_size


def validation_steps(config: flags.RunConfig, steps_per_epoch: int) -> list[int]:
    """The steps after which to validate, the end of each epoch among them."""
    if config.validations > steps_per_epoch:
        raise SystemExit(
            f"--validations {config.validations} is more than the {steps_per_epoch} "
            "steps of an epoch"
        )
    parts = range(1, config.epochs * config.validations + 1)
    return [part * steps_per_epoch // config.validations for part in parts]


def say_what_runs(
    log: Log,
    config: flags.RunConfig,
    data: Dataset,
    params: Any,
    start: int,
    steps: int,
) -> None:
    """Writes the first event of a run, or of what it resumes with."""
    parameters = sum(leaf.size for leaf in jax.tree.leaves(params))
    log.write(
        "resume" if start else "start",
        start,
        config=flags.identity(config),
        source=data.source,
        sizes=[dataset.size(s) for s in (data.train, data.validation, data.test)],
        parameters=parameters,
        devices=[jax.device_count(), jax.devices()[0].device_kind],
        versions={m.__name__: m.__version__ for m in (jax, optax, optax_adaptive)},
    )
    log.say(
        f"{data.source}; {parameters:,} parameters; {jax.device_count()} x "
        f"{jax.devices()[0].device_kind}; {config.method}; step {start} of {steps}"
    )


def train_until(
    end: int,
    config: flags.RunConfig,
    data: Dataset,
    mesh: Mesh,
    run_chunk: Callable[[TrainState, Batch], tuple[TrainState, Values]],
    state: TrainState,
    log: Log,
    workdir: Workdir | None,
) -> tuple[TrainState, float]:
    """Trains to step ``end``, which is of the same epoch as the state, or its end.

    Returns:
      The state, and the seconds that it waited for data.
    """
    steps_per_epoch = steps_in_epoch(config, data)
    step = int(state.step)
    epoch = step // steps_per_epoch
    chunks = batches.train_chunks(
        data,
        config.seed,
        epoch,
        start=step - epoch * steps_per_epoch,
        batch_size=config.batch_size,
        chunk=config.steps_per_dispatch,
        stop=end - epoch * steps_per_epoch,
    )
    prefetch = Prefetch(chunks, mesh)
    pending = None  # Logged one chunk late, so that the device never waits.
    for chunk in prefetch:
        before, step = step, step + len(next(iter(chunk.values())))
        state, values = run_chunk(state, chunk)
        if pending is not None:
            log.train(epoch, *jax.device_get(pending))
        pending = (step, values)
        every = config.checkpoint_steps
        # The end is saved after its validation.
        if workdir and every and step // every > before // every and step < end:
            log.train(epoch, *jax.device_get(pending))
            pending = None
            workdir.save(step, state)
    if pending is not None:
        log.train(epoch, *jax.device_get(pending))
    return state, prefetch.waited


def create(make: Callable[[nnx.Rngs], Any], seed: int) -> Any:
    """Makes a model with fresh parameters, in one compiled call.

    Its keys are of the kind rbg: XLA compiles the default kind for CPU at most of a
    second for each shape of parameter.
    """
    # The key is an argument, so that what is compiled serves every seed.
    return nnx.jit(lambda key: make(nnx.Rngs(key)))(jax.random.key(seed, impl="rbg"))
