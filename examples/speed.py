"""How fast the input pipeline and the training loop are, on this machine.

  python examples/speed.py pipeline --dataset cifar10
  python examples/speed.py loop

`pipeline` counts augmented images a second. `loop` trains the MLP and ResNet-18 (on a
CPU a narrow one) on digits by the scripts' loop, with fresh batches and logs, and by a
bare jitted loop over batches that lie on the device, in turn, and prints the ratio of
their speeds and the share of time that the scripts' loop waited for data.
"""

import argparse
import statistics
import time
from functools import partial
from typing import Any

import jax
import numpy as np
from flax import nnx

import mlp_mnist
import resnet18_cifar
from data import augment, dataset, images
from methods import registry
from training import batches, chunks, devices, loop
from training.logs import Log


def time_pipeline(dataset: str, data_dir: str | None) -> None:
    """Prints augmented images a second over an epoch."""
    data = images.load(dataset, data_dir, rgb=True)
    data = data._replace(augment=augment.crop_flip)  # for its time alone
    for epoch in range(3):
        start, count = time.perf_counter(), 0
        for chunk in batches.train_chunks(data, 0, epoch, 0, 64, 16):
            count += chunk["label"].size
        speed = count / (time.perf_counter() - start)
        print(f"{data.source}: {speed:,.0f} images a second, cropped and flipped")


def time_loop(
    script: Any, config: Any, model_type: type, data: dataset.Dataset, rounds: int
) -> None:
    """Prints the speed of the scripts' loop over that of a bare one."""
    mesh = devices.make_mesh(config.batch_size)
    steps = dataset.size(data.train) // config.batch_size
    build = partial(registry.build, "trend", "adam", steps=steps, steps_per_epoch=steps)
    rate = registry.default_rate("trend")
    method = build(rate)
    model = loop.create(lambda rngs: model_type(data.info, config, rngs), 0)
    graphdef, params, rest = nnx.split(model, nnx.Param, ...)
    state = chunks.init_state(method, params, rest, mesh)
    key = jax.random.key(0)
    train_step = chunks.make_train_step(script.per_example)
    run_chunk = chunks.make_run_chunk(train_step, graphdef, build, rate, key)
    log = Log(None, steps, 0, method.decides)
    # The same chunks as the loop runs, of the first batches.
    lengths = {}
    for chunk in batches.train_chunks(
        data, 0, 0, 0, config.batch_size, config.steps_per_dispatch
    ):
        lengths[len(chunk["label"])] = jax.device_put(chunk, devices.batched(mesh))
        state, _ = run_chunk(state, lengths[len(chunk["label"])])

    def bare(state):
        full, left = divmod(steps, config.steps_per_dispatch)
        for _ in range(full):
            state, _ = run_chunk(state, lengths[config.steps_per_dispatch])
        if left:
            state, _ = run_chunk(state, lengths[left])
        return jax.block_until_ready(state)

    bare_times, loop_times, waits = [], [], []
    for epoch in range(rounds):
        start = time.perf_counter()
        state = bare(state)
        middle = time.perf_counter()
        state = state._replace(step=state.step * 0 + epoch * steps)
        end = (epoch + 1) * steps
        state, waited = loop.train_until(
            end, config, data, mesh, run_chunk, state, log, None
        )
        jax.block_until_ready(state)
        seconds = time.perf_counter() - middle
        bare_times.append(middle - start)
        loop_times.append(seconds)
        waits.append(waited / seconds)
    log.close()
    ratios = [a / b for a, b in zip(bare_times, loop_times, strict=True)]
    print(
        f"{model_type.__name__} on {jax.devices()[0].device_kind}: "
        f"{steps * config.batch_size / min(loop_times):,.0f} images a second, "
        f"of a bare loop {statistics.median(ratios):.3f} (median of {rounds} pairs), "
        f"{min(bare_times) / min(loop_times):.3f} (fastest of each), "
        f"waiting for data {statistics.median(waits):.2%} of the time"
    )


def main(args: list[str] | None = None) -> None:
    """Measures what the command line names."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("pipeline", "loop"))
    parser.add_argument("--dataset", default="digits", choices=images.CIFAR)
    parser.add_argument("--data-dir")
    parser.add_argument("--rounds", type=int, default=15)
    chosen = parser.parse_args(args)
    if chosen.what == "pipeline":
        return time_pipeline(chosen.dataset, chosen.data_dir)
    on_cpu = jax.default_backend() == "cpu"
    mlp = mlp_mnist.Config(dataset="digits")
    resnet = resnet18_cifar.Config(
        dataset="digits",
        width=8 if on_cpu else 64,
        steps_per_dispatch=1 if on_cpu else 16,
    )
    data = images.load("digits")
    # An epoch of digits is a few milliseconds: make it an epoch of MNIST's length.
    train = {name: np.repeat(array, 37, axis=0) for name, array in data.train.items()}
    data = data._replace(train=train)
    time_loop(mlp_mnist, mlp, mlp_mnist.MLP, data, chosen.rounds)
    data = images.load("digits", rgb=True)
    data = data._replace(augment=augment.crop_flip)  # for its time alone
    time_loop(resnet18_cifar, resnet, resnet18_cifar.ResNet18, data, chosen.rounds)


if __name__ == "__main__":
    main()
