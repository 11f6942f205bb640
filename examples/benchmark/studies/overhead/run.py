"""What a controller costs: step time, compile time and bytes, as paired ratios.

Adam alone, with ``optax.contrib.reduce_on_plateau``, with every rule, and in autotune
and its parts (after the search, and 10,000 steps into a run): the optimizer's step
alone on trees of 16 parameters, of ResNet-18's 11 million, and of as many as fill half
the memory, where copies would not fit beside them; and the whole training step of a
perceptron and of ResNet-18. All methods take turns within every repetition, each time
in another order, and each is compared with Adam in the same repetition, so that a slow
moment of the machine hits both::

    cd examples && python -m benchmark.studies.overhead.run --output overhead.jsonl
"""

import argparse
import os
import platform
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from rich.console import Console
from rich.progress import track
from rich.table import Table

import optax_adaptive
import resnet18_cifar
from benchmark import records
from optax_adaptive import controllers
from optax_adaptive.transforms.averaging import AveragingState

ACCUMULATION_SIZE = 20  # of reduce_on_plateau, as most rules have it
SEARCH_STEPS = 200  # by then the search is over
LATE = 10_000  # steps of the average, which follows ever more rarely


def methods() -> dict[str, optax.GradientTransformationExtraArgs]:
    """Adam alone, with everything that may follow it, and in every wrapper."""
    adam = optax.with_extra_args_support(optax.adam(1e-3))
    plateau = optax.contrib.reduce_on_plateau(accumulation_size=ACCUMULATION_SIZE)
    made = {"adam": adam, "reduce_on_plateau": optax.chain(adam, plateau)}
    for name, make_rule in controllers.REGISTRY.items():
        rule = make_rule()
        tx = optax.chain(adam, optax_adaptive.scale_by_controller(rule))
        if rule.needs:
            tx = optax_adaptive.with_averaging(optax_adaptive.with_rollback(tx))
        made[name] = tx
    made["with_averaging"] = optax_adaptive.with_averaging(adam)
    made["with_rollback"] = optax_adaptive.with_rollback(adam)
    made["autotune"] = optax_adaptive.autotune(adam)
    made["autotune, interpolated"] = optax_adaptive.autotune(
        optax.adam(1e-3, b1=0.0), interpolate=True
    )
    return made


class Workload(NamedTuple):
    """What is timed."""

    shapes: list[tuple[int, ...]]  # of the parameters
    steps: int  # a timing; where it is 1 there is room for one state at a time
    repetitions: int
    gradient: Callable[[Any, Any], tuple[Any, Any]]  # params, data -> value, gradients
    data: Any


def given(params: Any, grads: Any) -> tuple[Any, Any]:
    """The optimizer's step alone."""
    del params
    return jnp.float32(1.0), grads


def cross_entropy(params: Any, batch: Any) -> Any:
    """Of a perceptron with two hidden layers."""
    x, labels = batch
    for weights in params[:-1]:
        x = jax.nn.relu(x @ weights)
    logits = x @ params[-1]
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


def resnet18() -> tuple[list[tuple[int, ...]], Callable[[Any, Any], tuple[Any, Any]]]:
    """Shapes of its 11.2 million parameters, and value and gradients of its loss."""
    info = {"mean": [0.5] * 3, "std": [0.25] * 3, "classes": 10}
    config = resnet18_cifar.Config()
    model = resnet18_cifar.ResNet18(info, config, nnx.Rngs(0))
    graphdef, params, statistics = nnx.split(model, nnx.Param, ...)
    leaves, structure = jax.tree.flatten(params)

    def loss(leaves, batch):
        params = jax.tree.unflatten(structure, leaves)
        model = nnx.merge(graphdef, params, statistics, copy=True)
        images, labels = batch
        losses = optax.softmax_cross_entropy_with_integer_labels(model(images), labels)
        return losses.mean()

    return [leaf.shape for leaf in leaves], jax.value_and_grad(loss)


def workloads() -> dict[str, Workload]:
    """By name."""
    resnet_shapes, resnet_gradient = resnet18()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    # Parameters, gradients and two moments, and once more while they are replaced.
    rows = int(memory / 2 / (8 * 4) / 4096 / 16)
    half = f"{16 * rows * 4096 / 1e6:.0f}M (half the memory)"
    trees = {
        "16 parameters": ([(4,)] * 4, 200, 200),
        "11.2M (ResNet-18)": (resnet_shapes, 5, 40),
        half: ([(rows, 4096)] * 16, 1, 3),
    }
    batch = (jnp.ones((256, 784)), jnp.zeros(256, jnp.int32))
    perceptron = [(784, 600), (600, 500), (500, 10)]
    training = Workload(perceptron, 5, 40, jax.value_and_grad(cross_entropy), batch)
    alone = {
        name: Workload(
            shapes,
            steps,
            repetitions,
            given,
            [jnp.full(shape, 1e-3, jnp.float32) for shape in shapes],
        )
        for name, (shapes, steps, repetitions) in trees.items()
    }
    images = (jnp.ones((64, 32, 32, 3), jnp.uint8), jnp.zeros(64, jnp.int32))
    return {
        **alone,
        "training step (0.8M, batch 256)": training,
        "training step (ResNet-18, batch 64)": Workload(
            resnet_shapes, 2, 10, resnet_gradient, images
        ),
    }


def make_step(
    tx: optax.GradientTransformationExtraArgs, gradient: Callable = given
) -> Callable:
    """A jitted step; a new function each time, so that it compiles anew."""

    def step(params, state, data):
        value, grads = gradient(params, data)
        updates, state = tx.update(grads, state, params, value=value)
        return optax.apply_updates(params, updates), state

    return jax.jit(step, donate_argnums=(0, 1))


def time_compile(tx: Any, params: Any, repetitions: int) -> float:
    """Seconds to trace and compile a step; the least of a few."""
    state = jax.eval_shape(tx.init, params)
    seconds = []
    for _ in range(repetitions):
        start = time.perf_counter()
        make_step(tx).lower(params, state, params).compile()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def searches(method: str) -> bool:
    """Whether it opens with a search."""
    return method.startswith("autotune") or method in ("search", "tuned", "learned")


def late(state: Any) -> Any:
    """A state whose average, if there is one, has seen ``LATE`` steps."""

    def is_average(node):
        return isinstance(node, AveragingState)

    def age(node):
        if not is_average(node):
            return node
        steps = jax.tree.map(lambda steps: steps * 0 + LATE, node.averaged_steps)
        return node._replace(averaged_steps=steps)

    return jax.tree.map(age, state, is_leaf=is_average)


def state_bytes(tx: Any, params: Any) -> int:
    """Bytes of the optimizer's state."""
    leaves = jax.tree.leaves(jax.eval_shape(tx.init, params))
    return sum(leaf.size * leaf.dtype.itemsize for leaf in leaves)


def time_steps(
    workload: Workload, made: dict[str, Any], repetitions: int, name: str
) -> dict[str, np.ndarray]:
    """Seconds a step by method, of shape (repetitions,): pairs across methods."""
    made, steps = dict(made), workload.steps
    if steps == 1:
        for method in ("autotune", "autotune, interpolated", "with_rollback"):
            made.pop(method, None)  # their copies would not fit
    jitted = {method: make_step(tx, workload.gradient) for method, tx in made.items()}
    # One set of parameters for all: several would not fit.
    params = [jnp.full(shape, 1e-3, jnp.float32) for shape in workload.shapes]
    seconds: dict[str, list[float]] = {method: [] for method in made}
    states: dict[str, Any] = {}
    shuffler = random.Random(0)
    for repetition in track(range(repetitions + 1), description=name):
        for method, tx in shuffler.sample(list(made.items()), len(made)):
            is_new = method not in states
            state = tx.init(params) if is_new else states.pop(method)
            if is_new and method not in ("adam", "reduce_on_plateau"):
                for _ in range(SEARCH_STEPS if searches(method) else 2):
                    params, state = jitted[method](params, state, workload.data)
                state = late(state)
            params, state = jitted[method](params, state, workload.data)  # warm
            jax.block_until_ready(params)
            start = time.perf_counter()
            for _ in range(steps):
                params, state = jitted[method](params, state, workload.data)
            jax.block_until_ready((params, state))
            if repetition:  # the first compiles
                seconds[method].append((time.perf_counter() - start) / steps)
            if steps > 1:
                states[method] = state
            del state
    return {method: np.array(times) for method, times in seconds.items()}


def main() -> None:
    """Measures, prints a table for each tree, and writes the numbers."""
    parser = argparse.ArgumentParser(description="What a controller costs a step.")
    parser.add_argument("--output", type=Path, help="JSON lines with every number")
    parser.add_argument("--quick", action="store_true", help="the small tree only")
    parser.add_argument("--methods", nargs="+", help="beside Adam; default: all")
    parser.add_argument("--trees", nargs="+", help="whose names begin so")
    parser.add_argument("--pairs", type=int, help="of each; more for finer ratios")
    flags = parser.parse_args()
    made = methods()
    unknown = set(flags.methods or ()) - set(made)
    if unknown:
        parser.error(f"no method {', '.join(unknown)}, but {', '.join(made)}")
    if flags.methods:
        made = {name: made[name] for name in ("adam", *flags.methods)}
    config = {"cores": os.cpu_count(), "machine": platform.machine()}
    lines: list[dict[str, Any]] = [records.header(config, seconds=0.0)]
    if flags.pairs is not None and flags.pairs < 1:
        parser.error(f"--pairs must be at least 1, but is {flags.pairs}")
    chosen = workloads()
    if flags.trees:
        names, starts = ", ".join(chosen), tuple(flags.trees)
        chosen = {name: w for name, w in chosen.items() if name.startswith(starts)}
        if not chosen:
            parser.error(f"no tree begins with {' or '.join(starts)}, but {names}")
    for name, workload in chosen.items():
        repetitions = flags.pairs or (3 if flags.quick else workload.repetitions)
        seconds = time_steps(workload, made, repetitions, name)
        abstract = [
            jax.ShapeDtypeStruct(shape, jnp.float32) for shape in workload.shapes
        ]
        table = Table(title=f"{name}: median over {len(seconds['adam'])} pairs")
        for heading in ("method", "step", "over Adam", "middle half", "adds"):
            table.add_column(
                heading, justify="left" if heading == "method" else "right"
            )
        for heading in ("compile", "adds", "state adds"):
            table.add_column(heading, justify="right")
        compiled = {m: time_compile(made[m], abstract, 5) for m in seconds}
        sizes = {m: state_bytes(made[m], abstract) for m in seconds}
        for method, times in seconds.items():
            low, ratio, high = np.percentile(times / seconds["adam"], [25, 50, 75])
            added = np.median(times - seconds["adam"])
            compile_added = compiled[method] - compiled["adam"]
            bytes_added = sizes[method] - sizes["adam"]
            measured = {
                "step_seconds": np.median(times),
                "step_ratio": ratio,
                "step_ratio_quartiles": [low, high],
                "step_seconds_added": added,
                "compile_seconds_added": compile_added,
            }
            line = {"tree": name, "method": method, "state_bytes_added": bytes_added}
            line |= {k: records.numbers(v, 7) for k, v in measured.items()}
            lines.append(line)
            table.add_row(
                method,
                f"{1e6 * np.median(times):.1f} us",
                f"{ratio:.3f}",
                f"{low:.3f} to {high:.3f}",
                f"{1e6 * added:.1f} us",
                f"{1e3 * compiled[method]:.0f} ms",
                f"{1e3 * compile_added:.0f} ms",
                f"{bytes_added} B",
            )
        Console(width=110).print(table)
        if flags.output:
            text = "".join(records.as_json(line) + "\n" for line in lines)
            flags.output.write_text(text)
        if flags.quick:
            break


if __name__ == "__main__":
    main()
