"""The README's Python blocks run as they stand, one after the other."""

from pathlib import Path

import jax
import jax.numpy as jnp
import optax

import optax_adaptive
from optax_adaptive import controllers
from tests.helpers import code_blocks

README = Path(__file__).parents[1] / "README.md"


@jax.numpy_dtype_promotion("standard")  # optax.adam mixes dtypes
def test_the_python_blocks_run():
    blocks = list(code_blocks.blocks(README))
    assert len(blocks) >= 3
    names = {
        "optax": optax,
        "optax_adaptive": optax_adaptive,
        "controllers": controllers,
        "params": jnp.ones(3),
        "grads": jnp.ones(3),
        "loss": jnp.float32(1.0),
        "accuracy": jnp.float32(0.5),
    }
    for block in blocks:
        source = block.source.replace("\n...\n", "\nopt_state = tx.init(params)\n")
        code_blocks.execute(README, source, names)
        # The state must be that of the block's own optimizer from here on.
        names["opt_state"] = names["tx"].init(names["params"])
    rule = names["halve_on_rise"](patience=1)
    tx = optax_adaptive.scale_by_controller(rule, accumulation_size=1)
    state = tx.init(None)
    for value in (1.0, 2.0, 3.0):
        _, state = tx.update(jnp.ones(()), state, value=value)
    assert optax_adaptive.lr_scale(state) == 0.25


def test_every_rule_is_in_the_table():
    rows = [row for row in README.read_text().splitlines() if row.startswith("| ")]
    table = "\n".join(row for row in rows if row.count("|") == 4)
    assert not [name for name in controllers.REGISTRY if f"{name}(" not in table]
