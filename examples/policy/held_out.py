"""How a policy does on task families that it was never trained on."""

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from optax_adaptive.controllers.learned.policy_network import PolicyWeights
from policy import families, rollout

OFFSETS = (-3.0, 0.0, 3.0)  # decades
LENGTHS = (1, 2)  # times that of the family
COSINES = np.arange(-3.0, 4.0) / 3.0
KEY = 2**20  # no generation comes near it
CLIP = 1.0  # of a log loss: a failed run counts as e times the cosine's loss


class HeldOut:
    """Tunes the cosines of each family once."""

    def __init__(self, table: dict[str, families.Family]):
        """Prepares the families of ``table``."""
        self.table = table
        self.tuned: dict[str, np.ndarray] = {}

    def __call__(self, policy: PolicyWeights) -> dict[str, Any]:
        """Regrets: log loss above the tuned cosine's on the same task.

        Returns:
          By family, for each length those where it is known, then those where it is
          not, one an offset, each with a task of its own; and ``mean``, over
          everything, each clipped to [-1, 1].
        """
        policies = jax.tree.map(lambda leaf: leaf[None], policy)
        row: dict[str, Any] = {}
        for i, (name, family) in enumerate(self.table.items()):
            family_key = jax.random.fold_in(jax.random.key(KEY), i)
            keys = [jax.random.fold_in(family_key, k) for k in range(len(OFFSETS))]
            if name not in self.tuned:
                self.tuned[name] = tuned_cosines(family, keys)
            row[name] = []
            for (j, length), is_known in itertools.product(
                enumerate(LENGTHS), (True, False)
            ):
                regrets = []
                for offset, key, best in zip(
                    OFFSETS, keys, self.tuned[name][j], strict=True
                ):
                    setting = rollout.setting(offset, length * family.steps, is_known)
                    (loss,) = rollout.policy_losses(family, policies, setting, key)
                    regrets.append(float(f"{np.log(loss) - best:.3g}"))
                row[name].append(regrets)
        everything = np.concatenate([np.ravel(rows) for rows in row.values()])
        row["mean"] = float(f"{np.clip(everything, -CLIP, CLIP).mean():.4g}")
        return row


def tuned_cosines(family: families.Family, keys: list[jax.Array]) -> np.ndarray:
    """Log losses of cosines tuned on each task, shape=(lengths, tasks)."""
    logs = []
    for length in LENGTHS:
        longer, cosines = (
            family._replace(steps=length * family.steps),
            jnp.float32(COSINES),
        )
        losses = [rollout.cosine_losses(longer, cosines, key) for key in keys]
        logs.append(np.log(np.min(losses, axis=1)))
    return np.array(logs)
