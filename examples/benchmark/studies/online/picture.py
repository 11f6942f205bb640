"""docs/research/rl.png: what the prior wants, and the factor over runs on digits.

cd examples && python -m benchmark.studies.online.picture      # after its run
"""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from benchmark import pictures
from benchmark.studies.learned.picture import states_along
from benchmark.studies.online import run as experiment
from benchmark.studies.online.report import read
from benchmark.studies.online.rules import LEARNERS
from optax_adaptive.controllers.online import offline_prior
from policy.prior_fits import first_actions

PICTURE = Path(__file__).parents[4] / "docs" / "research" / "rl.png"


def draw(table: dict, path: Path) -> None:
    """What the prior wants in a state; the factor over runs on digits.

    The state is one in the middle of a descent, at the anchor's own rate. The bandit's
    single runs are thin lines.
    """
    figure = Figure(figsize=(13, 3), layout="constrained")
    progress = (np.arange(experiment.TRACE) + 0.5) / experiment.TRACE
    first, *rows = figure.subplots(1, 4, sharey=True)
    costs, states = states_along("cost", -1.5, 1.5)
    actions = first_actions(offline_prior.shipped(), states)
    for method in LEARNERS:
        first.plot(10.0**costs, 10.0 ** actions[method], label=method)
    first.axhline(1, color="black", lw=0.8)
    first.set(
        xscale="log",
        title="what the prior wants",
        xlabel="averaging gap over total improvement",
        ylabel="factor on the anchor's rate",
    )
    first.legend()
    for axes, offset in zip(rows, (0.1, 1.0, 10.0), strict=True):
        for method in LEARNERS:
            runs = table["digits", "cosine", offset, method]["log_factors"][
                : experiment.SHOWN
            ]
            (line,) = axes.plot(progress, np.exp(runs.mean(0)), label=method)
            if method == "bandit":
                axes.plot(progress, np.exp(runs.T), color=line.get_color(), lw=0.4)
        axes.axhline(1, color="black", lw=0.8)
        axes.set(yscale="log", xlabel="part of the run")
        axes.set_title(f"digits, cosine peak {offset:g} x tuned")
    pictures.save(figure, path, dpi=110)


def main() -> None:
    """Reads the runs and draws."""
    draw(read(experiment.RESULTS), PICTURE)


if __name__ == "__main__":
    main()
