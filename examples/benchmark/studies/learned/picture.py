"""docs/research/learned.png: what the policy does in a state, and the rates it drew.

cd examples && python -m benchmark.studies.learned.picture      # after its run
"""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from benchmark import pictures
from benchmark.plans import as_written
from benchmark.studies.learned import run as learned
from optax_adaptive.controllers.learned.policy_network import act, shipped_weights
from optax_adaptive.controllers.learned.rule import LARGEST_STEP
from optax_adaptive.controllers.learned.state_features import NAMES, SIZE

RATES = (1e-7, 1e-3, 10.0)
PICTURE = Path(__file__).parents[4] / "docs" / "research" / "learned.png"

# The state to start from, in the features' own units; the others are 0.
STATE = {
    "slope_4": -0.1,
    "slope_8": -0.2,
    "trend": -0.2,
    "signal": 0.7,
    "has_descended": 1.0,
    "age": 0.9,
    "above_progress": 0.3,
    "near_blow_up": 0.5,
}
SLICES = {
    "root of the rate over ten times the first": ("near_blow_up", 0.0, 0.7),
    "z of the slope over 8 windows": ("slope_8", -1.2, 1.2),
    "log10 of the averaging gap over the decrease": ("cost", -1.5, 1.5),
    "rate over the mean one of progress": ("above_progress", -0.5, 1.0),
    "log of what remains of the run": ("remaining", -0.98, 0.0),
}


def states_along(name: str, low: float, high: float) -> tuple[np.ndarray, np.ndarray]:
    """81 values of a feature, and states that have them, of shape (81, SIZE)."""
    seen = np.zeros(SIZE, np.float32)
    for feature, value in STATE.items():
        seen[NAMES.index(feature)] = value
    values = np.linspace(low, high, 81, dtype=np.float32)
    rows = np.tile(seen, (len(values), 1))
    if name == "cost":  # one number in two features
        rows[:, NAMES.index("gap_above")] = np.maximum(values, 0.0)
        rows[:, NAMES.index("gap_below")] = np.minimum(values, 0.0)
    else:
        rows[:, NAMES.index(name)] = values
    return values, rows


def slice_of(name: str, low: float, high: float) -> tuple[np.ndarray, np.ndarray]:
    """Feature values, from 0 to 1, and the factor that the policy moves the rate by."""
    values, rows = states_along(name, low, high)
    actions = jax.vmap(lambda row: act(shipped_weights(), row))(jnp.asarray(rows))
    return (values - low) / (high - low), np.exp(LARGEST_STEP * np.asarray(actions))


def draw(rows: learned.Rows, path: Path) -> None:
    """Draws the slices beside the rates of three tasks."""
    tasks = ("digits", "transformer", "demand")
    figure = Figure(figsize=(16, 3.8), layout="constrained")
    axes = figure.subplots(1, 4)
    for label, (name, low, high) in SLICES.items():
        axes[0].plot(*slice_of(name, low, high), label=f"{label}: {low:g} to {high:g}")
    axes[0].axhline(1.0, color="grey", linewidth=0.5)
    axes[0].set(
        xlabel="one feature, from the low to the high end of its range",
        title="state to action, in mid-descent",
        ylabel="factor on the learning rate",
    )
    axes[0].legend(fontsize=6)
    for axis, task in zip(axes[1:], tasks, strict=True):
        for method, style in (("learned", "-"), ("learned_anytime", ":")):
            for color, rate in enumerate(RATES):
                row = rows[task, method, as_written(rate), 0]
                drawn = np.array(row["learning_rate"], np.float64)
                steps = (np.arange(len(drawn)) + 1) / len(drawn)  # ends of parts
                label = f"base {rate:.0e}" if method == "learned" else None
                axis.plot(steps, drawn, style, color=f"C{color}", label=label)
        axis.set(yscale="log", xlabel="part of the run", title=task)
    axes[1].set_ylabel("learning rate (dotted: length unknown)")
    axes[1].legend(fontsize=7)
    pictures.save(figure, path, dpi=130)


def main() -> None:
    """Reads the runs and draws."""
    draw(learned.read(learned.RESULTS), PICTURE)


if __name__ == "__main__":
    main()
