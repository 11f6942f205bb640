"""How a policy does on kinds of task that it was never trained on."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from optax_adaptive.controllers.learned import PolicyWeights
from policy import kinds, rollout

OFFSETS = np.arange(-3.0, 4.0)  # decades
COSINES = np.arange(-3.0, 4.0) / 3.0
KEY = 2**20  # no generation comes near it
CLIP = 1.0  # of a log loss: a failed run counts as e times the cosine's loss


class HeldOut:
    """Compiles each kind once; the tuned cosine is found when first needed."""

    def __init__(self, table: dict[str, kinds.Kind]):
        """Prepares the kinds of ``table``."""
        self.table = table
        self.policies = {name: rollout.try_offsets(k) for name, k in table.items()}
        self.cosines: dict[str, float] = {}

    def __call__(self, policy: PolicyWeights) -> dict[str, Any]:
        """Regrets: log loss above the tuned cosine's on the same task.

        Returns:
          By kind, those with the length known, then those without, one an offset; and
          ``mean``, over everything, each clipped to [-1, 1].
        """
        row: dict[str, Any] = {}
        for i, (name, kind) in enumerate(self.table.items()):
            key = jax.random.fold_in(jax.random.key(KEY), i)
            if name not in self.cosines:
                losses = rollout.try_cosines(kind)(jnp.float32(COSINES), key)
                self.cosines[name] = float(np.log(np.min(losses)))
            row[name] = [
                [
                    float(f"{np.log(loss) - self.cosines[name]:.3g}")
                    for loss in np.asarray(
                        self.policies[name](
                            policy, jnp.float32(OFFSETS), jnp.float32(horizon), key
                        )
                    )
                ]
                for horizon in (kind.steps, np.inf)
            ]
        everything = np.concatenate([np.ravel(rows) for rows in row.values()])
        row["mean"] = float(f"{np.clip(everything, -CLIP, CLIP).mean():.4g}")
        return row
