"""Times of steps, in pairs across methods, of compilation, and sizes of states."""

import random
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import optax
from rich.progress import track

from benchmark.studies.overhead.workloads import Workload, given
from optax_adaptive.transforms.averaging import AveragingState

# By then it is over (also with a few trials), and so is the time after it in which
# maintain looks back.
SEARCH_STEPS = 600

LATE = 10_000  # steps of the average, which follows ever more rarely


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
        for method in list(made):
            if searches(method) or method in ("maintain", "with_rollback"):
                del made[method]  # their copies would not fit
    jitted = {method: make_step(tx, workload.gradient) for method, tx in made.items()}
    # Each method trains parameters of its own, but where several would not fit.
    shared = workload.params() if steps == 1 else None
    seconds: dict[str, list[float]] = {method: [] for method in made}
    trained: dict[str, Any] = {}  # parameters and states
    shuffler = random.Random(0)
    for repetition in track(range(repetitions + 1), description=name):
        for method, tx in shuffler.sample(list(made.items()), len(made)):
            is_new = method not in trained
            if is_new:
                params = workload.params() if shared is None else shared
                state = tx.init(params)
            else:
                params, state = trained.pop(method)
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
            if shared is None:
                trained[method] = params, state
            else:
                shared = params
            del params, state
    return {method: np.array(times) for method, times in seconds.items()}
