"""Where the averaging gain stands at good rates: what its bounds in autotune rest on.

    cd examples && python -m benchmark.gain

Constant rates, averaged as in autotune, on the small tasks of ``policy/kinds.py``
(those that compile fast, at twice their length, three draws each). A line of
results/gain.jsonl is a kind: final validation loss by rate, and the averaging gain over
the progress so far (``optax_adaptive/_gain.py``) in each stretch of the run.
"""

import argparse
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmark.run import fill
from optax_adaptive import _averaging, _gain, eval_params, with_averaging
from policy import kinds, rollout

RESULTS = Path(__file__).with_name("results") / "gain.jsonl"
KINDS = {
    name: kind._replace(steps=2 * kind.steps)
    for name, kind in {**kinds.HELD_OUT, **kinds.TRAINING}.items()
    if not {"conv", "attention"} & set(name.split("-"))
}
DRAWS, KEY = 3, 777
STARTS = (60, 100, 200, 400)  # of the stretches; each ends where the next begins


def first_rate(optimizer: str) -> float:
    """The lowest of ten rates, three a decade, in decades."""
    return {"sgd": -2.0, "lion": -4.0}.get(optimizer, -3.0)


def measure(kind: kinds.Kind, rate: jax.Array, key: jax.Array) -> dict[str, jax.Array]:
    """Final validation loss, () float32, and gain over progress, (4,) float32."""
    base = kinds.OPTIMIZERS[kind.optimizer](1.0)
    tx = with_averaging(optax.chain(base, optax.scale(rate)))
    problem_key, init_key, batch_key = jax.random.split(key, 3)
    problem = kinds.draw(kind, problem_key)
    params = problem.init(init_key)
    firsts = jax.vmap(partial(problem.loss, params))(jax.random.split(init_key, 16))

    def step(carry, key):
        params, state = carry
        loss, grads = jax.value_and_grad(problem.loss)(params, key)
        averaging = _averaging.AveragingState(eval_params(state, params), jnp.array(0))
        product = _gain.product(averaging, params, grads)
        updates, state = tx.update(grads, state, params)
        return (optax.apply_updates(params, updates), state), (loss, product)

    keys = jax.random.split(batch_key, kind.steps)
    (params, state), (losses, products) = jax.lax.scan(
        step, (params, tx.init(params)), keys
    )
    stretches = [slice(*ends) for ends in zip(STARTS, (*STARTS[1:], None), strict=True)]
    ratios = [
        products[s].mean() / (firsts.mean() - losses[s].mean()) for s in stretches
    ]
    return {
        "loss": rollout.final(problem, eval_params(state, params)),
        "ratio": jnp.stack(ratios),
    }


def run(kind: kinds.Kind) -> dict[str, Any]:
    """What the line of a kind says of it."""
    rates = 10.0 ** (first_rate(kind.optimizer) + np.arange(10) / 3.0)
    draws = [jax.random.fold_in(jax.random.key(KEY), i) for i in range(DRAWS)]
    over_rates = jax.jit(
        lambda key: jax.lax.map(
            lambda rate: measure(kind, rate, key), jnp.float32(rates)
        )
    )
    drawn = jax.device_get([over_rates(key) for key in draws])
    losses = np.exp(np.mean([np.log(one["loss"]) for one in drawn], 0))
    ratios = np.median([one["ratio"] for one in drawn], 0)  # (rate, stretch)

    def rounded(values):
        return [float(f"{x:.3g}") if np.isfinite(x) else None for x in values]

    return {
        "optimizer": kind.optimizer,
        "batch_size": kind.batch_size,
        "steps": kind.steps,
        "rates": rounded(rates),
        "loss": rounded(losses),
        "ratio": {str(start): rounded(ratios[:, i]) for i, start in enumerate(STARTS)},
    }


def at_ratio(line: dict[str, Any], ratio: float) -> float:
    """Log loss above the best at the lowest rate whose late gain is ``ratio``."""
    late = np.array(line["ratio"][str(STARTS[-1])], float)
    above = np.maximum.accumulate(np.maximum(np.nan_to_num(late, nan=np.inf), 1e-6))
    above = np.minimum(above, 1e6)
    loss = np.log(np.array(line["loss"], float))
    return float(np.interp(np.log(ratio), np.log(above), loss - loss.min()))


def table(lines: list[dict[str, Any]]) -> str:
    """Markdown: a row a kind."""
    rows = [
        "| kind | steps | best rate | gain there, early | late "
        "| loss at a late gain of 0.02 | 0.05 | 0.1 | 0.2 |",
        "| --- " * 9 + "|",
    ]
    for line in lines:
        best = int(np.argmin(line["loss"]))
        ratios = line["ratio"]
        early, late = (ratios[str(start)][best] for start in (STARTS[1], STARTS[-1]))
        above = [f"{100 * at_ratio(line, x):+.0f}%" for x in (0.02, 0.05, 0.1, 0.2)]
        cells = [line["kind"], line["steps"], f"{line['rates'][best]:.1e}", early, late]
        rows.append("| " + " | ".join(map(str, [*cells, *above])) + " |")
    return "\n".join(rows)


def main() -> None:
    """Runs what is not there yet, and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=RESULTS)
    output = parser.parse_args().output
    jobs = [((name,), partial(run, kind)) for name, kind in KINDS.items()]
    print(table(fill(output, ("kind",), jobs)))


if __name__ == "__main__":
    main()
