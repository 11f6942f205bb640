"""The table of docs/research/autotune_experiments.md: autotune with other settings."""

from typing import Any

import numpy as np

from benchmark.tables import Table
from benchmark.tasks import DEVELOPMENT


def ablation(lines: list[dict[str, Any]]) -> Table:
    """Each default of autotune against others."""
    groups: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for line in lines:
        if "header" not in line:
            key = (line["task"], line["optimizer"], line["method"])
            groups.setdefault(key, []).append(line)
    rows = []
    for (task, optimizer, method), runs in sorted(
        groups.items(), key=lambda g: g[0][:2]
    ):
        runs = sorted(runs, key=lambda run: run["seed"])
        finals = np.array([run["test"] for run in runs], np.float64)  # NaN for null
        found = [run["base_rate"] * run["found_scale"] for run in runs]
        rows.append(
            [
                *(f"{task}, {optimizer}", method.removeprefix("autotune: ")),
                f"{np.mean(finals):#.4g}",
                " ".join(f"{final:#.4g}" for final in finals),
                f"{min(found):.1e} … {max(found):.1e}",
                f"{sum(run['rollbacks'] for run in runs):.0f}",
            ]
        )
    return Table(
        "Ablation",
        f"{DEVELOPMENT} Final test metric of the averaged weights; base rate 1e-3, "
        "`total_steps` given.",
        ["task", "variant", "mean", "by seed", "rates found", "rollbacks"],
        rows,
    )
