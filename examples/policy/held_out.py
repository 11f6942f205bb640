"""How a policy does on kinds of task that it was never trained on."""

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from optax_adaptive.controllers.learned import PolicyWeights
from policy import kinds, rollout

OFFSETS = (-3.0, 0.0, 3.0)  # decades
LENGTHS = (1, 2)  # times that of the kind
COSINES = np.arange(-3.0, 4.0) / 3.0
KEY = 2**20  # no generation comes near it
CLIP = 1.0  # of a log loss: a failed run counts as e times the cosine's loss


class HeldOut:
    """Compiles each kind once."""

    def __init__(self, table: dict[str, kinds.Kind]):
        """Prepares the kinds of ``table``."""
        self.table = table
        self.losses = {name: rollout.compare_policies(k) for name, k in table.items()}
        self.cosines: dict[tuple[str, int], float] = {}

    def __call__(self, policy: PolicyWeights) -> dict[str, Any]:
        """Regrets: log loss above the tuned cosine's on the same task.

        Returns:
          By kind, for each length those where it is known, then those where it is not,
          one an offset; and ``mean``, over everything, each clipped to [-1, 1].
        """
        policies = jax.tree.map(lambda leaf: leaf[None], policy)
        row: dict[str, Any] = {}
        for i, (name, kind) in enumerate(self.table.items()):
            key = jax.random.fold_in(jax.random.key(KEY), i)
            row[name] = []
            for length, is_known in itertools.product(LENGTHS, (True, False)):
                steps = length * kind.steps
                settings = [
                    rollout.setting(offset, steps, is_known) for offset in OFFSETS
                ]
                losses = [self.losses[name](policies, s, key)[0] for s in settings]
                best = self.cosine(name, length, key)
                row[name].append([float(f"{np.log(x) - best:.3g}") for x in losses])
        everything = np.concatenate([np.ravel(rows) for rows in row.values()])
        row["mean"] = float(f"{np.clip(everything, -CLIP, CLIP).mean():.4g}")
        return row

    def cosine(self, name: str, length: int, key: jax.Array) -> float:
        """Log loss of the tuned cosine, found when first needed."""
        if (name, length) not in self.cosines:
            kind = self.table[name]
            kind = kind._replace(steps=length * kind.steps)
            losses = rollout.try_cosines(kind)(jnp.float32(COSINES), key)
            self.cosines[name, length] = float(np.log(np.min(losses)))
        return self.cosines[name, length]
