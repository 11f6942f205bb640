"""The noise ratio at good and at other learning rates: what corrections rest on.

    cd examples && python -m benchmark.studies.sampled_tasks.noise_ratio

The averaging gap over the decrease of the loss, and the inner product of gradient and
displacement from the initial point, at constant rates, averaged with a half-life of a
twentieth of the steps, on the task families of ``policy/families.py`` (those that
compile fast, at twice their length, three tasks each). A line of noise_ratio.jsonl is a
family: by rate the final validation loss, the ratio in the early blocks and in those of
the last half of the run, and of the blocks that end on probation that inner product
over the total improvement, and the share in which it points back (not where a run
diverged).
"""

import argparse
import itertools
import math
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmark.records import fill, numbers
from benchmark.tables import markdown
from optax_adaptive import eval_params, with_averaging
from optax_adaptive.controllers.maintain import MaintainSettings
from optax_adaptive.controllers.maintain.rate_correction import (
    BLOCKS,
    CorrectionSettings,
)
from optax_adaptive.controllers.search import SearchSettings
from optax_adaptive.signals import averaging_gap
from policy import families, rollout

RESULTS = Path(__file__).with_name("noise_ratio.jsonl")
FAMILIES = {
    name: family._replace(steps=2 * family.steps)
    for name, family in {**families.HELD_OUT, **families.TRAINING}.items()
    if not {"conv", "attention"} & set(name.split("-"))
}
SAMPLES, KEY = 3, 777
MAINTAIN, CORRECTION = MaintainSettings(), CorrectionSettings()
EARLY = 300  # steps; late is the last half


def first_rate(optimizer: str) -> float:
    """The lowest of ten rates, three a decade, in decades."""
    return {"sgd": -2.0, "lion": -4.0}.get(optimizer, -3.0)


def block_ends(steps: int) -> np.ndarray:
    """Where the blocks of a correction of so many steps end."""
    ends = [0]
    while ends[-1] <= steps:
        length = max(MAINTAIN.block * ends[-1], MAINTAIN.shortest_block)
        ends.append(ends[-1] + math.ceil(length))
    return np.array(ends[1:-1])


def measure(
    family: families.Family, rate: jax.Array, key: jax.Array
) -> dict[str, jax.Array]:
    """Final validation loss, () float32, and one a block judged: ratio, way back."""
    base = families.OPTIMIZERS[family.optimizer](1.0)
    tx = with_averaging(optax.chain(base, optax.scale(rate)))
    problem_key, init_key, batch_key = jax.random.split(key, 3)
    problem = families.sample(family, problem_key)
    first = params = problem.init(init_key)

    def step(carry, key):
        params, state = carry
        loss, grads = jax.value_and_grad(problem.loss)(params, key)
        average = eval_params(state, params)
        product = averaging_gap.gap(average, params, grads)
        return_slope = averaging_gap.gap(average, first, grads)
        updates, state = tx.update(grads, state, params)
        return (optax.apply_updates(params, updates), state), (
            loss,
            product,
            return_slope,
        )

    keys = jax.random.split(batch_key, family.steps)
    (params, state), (losses, products, returns) = jax.lax.scan(
        step, (params, tx.init(params)), keys
    )
    ends = block_ends(family.steps)
    blocks = [slice(*pair) for pair in itertools.pairwise([0, *ends.tolist()])]
    means = jnp.stack([losses[block].mean() for block in blocks])
    sizes = jnp.float32([block.stop - block.start for block in blocks])
    errors = jnp.stack([losses[block].std() for block in blocks]) / jnp.sqrt(sizes)
    gaps = jnp.stack([products[block].mean() for block in blocks])
    slopes = jnp.stack([returns[block].mean() for block in blocks])
    calibrated = keys[: SearchSettings().calibration_steps]
    total = jnp.mean(jax.vmap(problem.loss, (None, 0))(first, calibrated)) - means
    apart = BLOCKS - 1
    decreases = means[:-apart] - means[apart:]
    decreases += CORRECTION.z * jnp.hypot(errors[:-apart], errors[apart:])
    return {
        "loss": rollout.final(problem, eval_params(state, params)),
        "ratio": jnp.where(decreases > 0.0, gaps[apart:] / decreases, jnp.inf),
        "return_slope": jnp.where(
            total > 0.0, slopes / total, jnp.sign(slopes) * jnp.inf
        )[apart:],
    }


def run(family: families.Family) -> dict[str, Any]:
    """The line of a family."""
    rates = 10.0 ** (first_rate(family.optimizer) + np.arange(10) / 3.0)
    keys = [jax.random.fold_in(jax.random.key(KEY), i) for i in range(SAMPLES)]
    over_rates = jax.jit(
        lambda key: jax.lax.map(
            lambda rate: measure(family, rate, key), jnp.float32(rates)
        )
    )
    measured = jax.device_get([over_rates(key) for key in keys])
    losses = np.exp(np.mean([np.log(one["loss"]) for one in measured], 0))
    ratios = np.stack([one["ratio"] for one in measured])  # (task, rate, block)
    ends = block_ends(family.steps)[BLOCKS - 1 :]
    early, late = ends <= EARLY, ends > family.steps / 2
    backs = np.stack([one["return_slope"] for one in measured])[
        :, :, ends <= MAINTAIN.early
    ]

    def rounded(values):
        return numbers(values, 3)

    def median(of):
        return rounded(np.median(ratios[:, :, of], (0, 2)))

    return {
        "optimizer": family.optimizer,
        "batch_size": family.batch_size,
        "steps": family.steps,
        "rates": rounded(rates),
        "loss": rounded(losses),
        "early": median(early),
        "late": median(late),
        "return_slope": rounded(np.median(backs, (0, 2))),
        "points_back": rounded(np.mean(backs < -CORRECTION.back, (0, 2))),
    }


def at_ratio(line: dict[str, Any], ratio: float) -> float:
    """Log loss above the best at the lowest rate whose late ratio is ``ratio``."""
    late = np.array(line["late"], float)
    above = np.maximum.accumulate(np.maximum(np.nan_to_num(late, nan=np.inf), 1e-6))
    above = np.minimum(above, 1e6)
    loss = np.log(np.array(line["loss"], float))
    return float(np.interp(np.log(ratio), np.log(above), loss - loss.min()))


def table(lines: list[dict[str, Any]]) -> str:
    """Markdown: a row a family."""
    rows = []
    for line in lines:
        best = int(np.argmin(line["loss"]))
        early, late = line["early"][best], line["late"][best]
        above = [f"{100 * at_ratio(line, x):+.0f}%" for x in (0.25, 0.5, 1.0, 2.0)]
        cells = [
            line["family"],
            line["steps"],
            f"{line['rates'][best]:.1e}",
            early,
            late,
        ]
        rows.append([*map(str, cells), *above])
    return markdown(
        [
            *("kind", "steps", "best rate", "ratio there, early", "late"),
            *("loss at a late ratio of 0.25", "0.5", "1", "2"),
        ],
        rows,
    )


def return_slope_table(lines: list[dict[str, Any]]) -> str:
    """Markdown: a row a family, at the best rate and at 2.2, 4.6 and 10 times it."""
    rows = []
    shares = []
    for line in lines:
        best = int(np.argmin(line["loss"]))
        backs, leads = (
            [*line[x][best:], *4 * [None]][:4] for x in ("return_slope", "points_back")
        )
        shares.append(np.array(leads, float))
        cells = [f"{x:+.2f}" if x is not None else "–" for x in backs]
        cells += [f"{100 * x:.0f}%" if x is not None else "–" for x in leads]
        rows.append([line["family"], *cells])
    means = [f"{100 * x:.0f}%" for x in np.nanmean(shares, 0)]
    rows.append(["**mean**", *4 * [""], *means])
    return markdown(
        [
            *("kind", "the way back over what was won, at the best rate"),
            *("at 2.2 times that", "4.6", "10"),
            *("leads down, at the best rate", "at 2.2 times that", "4.6", "10"),
        ],
        rows,
    )


def main() -> None:
    """Runs what is not there yet, and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=RESULTS)
    output = parser.parse_args().output
    jobs = [((name,), partial(run, family)) for name, family in FAMILIES.items()]
    lines = fill(output, ("family",), jobs)
    print(table(lines), return_slope_table(lines), sep="\n")


if __name__ == "__main__":
    main()
