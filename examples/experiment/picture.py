"""docs/experiment_TASK.png: learning curves and rates, a column a group of methods.

cd examples && python -m experiment.picture
"""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmark import pictures, records
from experiment import measures
from experiment import plan as plans
from experiment.measures import Outcome
from experiment.plan import Plan, Row, Task
from experiment.report import STANDARD
from experiment.tables import TITLES, unit

DOCS = Path(__file__).parents[2] / "docs"

# Lines are told apart by dashes too, for print without colour.
GIVEN, TUNED, DASHED = (0, (1, 1)), "-", (0, (5, 1.5))
GROUPS: dict[str, dict[str, dict[str, Any]]] = {
    "static schedules": {
        "fixed": {"color": "#8c6bb1", "linestyle": GIVEN},
        "step": {"color": "#41ab5d", "linestyle": GIVEN},
        "cosine": {"color": "#3690c0", "linestyle": GIVEN},
        "fixed_tuned": {"color": "#8c6bb1", "linestyle": TUNED},
        "step_tuned": {"color": "#41ab5d", "linestyle": TUNED},
        "constant_averaged": {"color": "#d98200", "linestyle": DASHED},
    },
    "rules": {
        "plateau": {"color": "#08519c", "linestyle": TUNED},
        "trend": {"color": "#4292c6", "linestyle": DASHED},
        "greedy": {"color": "#41b6c4", "linestyle": GIVEN},
    },
    "online learners": {
        "cosine+bandit": {"color": "#00682b", "linestyle": TUNED},
        "cosine+q_learning": {"color": "#41ab5d", "linestyle": DASHED},
        "cosine+actor_critic": {"color": "#8ba800", "linestyle": GIVEN},
    },
    "learned and autotune": {
        "learned": {"color": "#6a51a3", "linestyle": TUNED},
        "autotune": {"color": "#e6550d", "linestyle": DASHED},
        "autotune_interpolated": {"color": "#c51b8a", "linestyle": DASHED},
        "autotune_interpolated_anytime": {"color": "#c51b8a", "linestyle": TUNED},
    },
}
EVERYWHERE = {
    "cosine_tuned": {"color": "black", "linewidth": 2.2, "zorder": 4},
    "autotune_anytime": {"color": "#de2d26", "linewidth": 2.2, "zorder": 5},
}
OTHERS = {"color": "0.82", "linewidth": 0.8, "zorder": 1}
MEASURES = ("validation", "loss_curve", "rate_curve")
LOWEST_RATE = 1e-7  # that is shown


def curve(found: Outcome, name: str) -> tuple[np.ndarray, np.ndarray] | None:
    """Steps, and the median over seeds; None where no run has a curve."""
    rows: list[Row] = [row for row in found.rows.values() if row.get(name)]
    if not rows:
        return None
    values = np.median(np.array([row[name] for row in rows], float), 0)
    steps = rows[0]["steps"]
    return np.linspace(0, steps, len(values) + 1)[1:], values


def limits(task: Task, name: str, curves: list[np.ndarray]) -> tuple[float, float]:
    """The range of an axis: that of the curves without the worst tenth."""
    values = np.concatenate(curves)
    values = values[np.isfinite(values)]
    is_more_better = name == "validation" and task.is_accuracy
    low, high = np.quantile(values, (0.1, 1.0) if is_more_better else (0.0, 0.9))
    if name != "validation":
        return 0.8 * low, 1.25 * high  # logarithmic
    margin = 0.03 * (high - low) or 1.0  # where all are alike
    return low - margin, high + margin


def figure_of(plan: Plan, name: str, by_entry: dict[str, Outcome]) -> Figure:
    """Three rows of panels: validation metric, training loss and learning rate."""
    task = plan.tasks[name]
    groups = {
        title: {e: style for e, style in styles.items() if e in by_entry}
        for title, styles in GROUPS.items()
    }
    groups = {title: styles for title, styles in groups.items() if styles}
    figure = Figure(figsize=(13, 9.5), layout="constrained")
    panels = figure.subplots(3, len(groups), sharex=True, sharey="row", squeeze=False)
    for row, measure in zip(panels, MEASURES, strict=True):
        every = {entry: curve(found, measure) for entry, found in by_entry.items()}
        curves = {entry: found for entry, found in every.items() if found}
        for panel, styles in zip(row, groups.values(), strict=True):
            draw(panel, curves, styles)
        if not curves:
            continue
        if measure != "rate_curve":
            shown = [values for _, values in curves.values()]
            row[0].set_ylim(limits(task, measure, shown))
        if measure != "validation":
            row[0].set_yscale("log")
        if measure == "rate_curve":  # a search begins where nothing moves
            row[0].set_ylim(bottom=LOWEST_RATE)
    labels = (f"validation, {unit(task)}", "training loss", "learning rate")
    for panel, label in zip(panels[:, 0], labels, strict=True):
        panel.set_ylabel(label)
    for panel, title in zip(panels[0], groups, strict=True):
        panel.set_title(title)
    for panel in panels[-1]:
        panel.set_xlabel("step")
        if not panel.get_legend_handles_labels()[0]:
            continue  # nothing of this group is made yet
        # Below the panel, where it covers no line.
        panel.legend(
            loc="upper center", bbox_to_anchor=(0.5, -0.2), frameon=False, fontsize=9
        )
    figure.suptitle(f"{TITLES[name]}: medians over seeds; other methods in grey")
    return figure


def draw(
    panel: Axes,
    curves: dict[str, tuple[np.ndarray, np.ndarray]],
    styles: dict[str, dict[str, Any]],
) -> None:
    """The methods of a group, before those of the others."""
    for entry, (steps, values) in curves.items():
        style = styles.get(entry) or EVERYWHERE.get(entry)
        options = {"label": entry, "linewidth": 1.5} | style if style else OTHERS
        panel.plot(steps, values, **options)
    panel.grid(alpha=0.25)


def draw_all(
    plan: Plan, found: dict[str, dict[str, Outcome]], stem: Path
) -> list[Path]:
    """Draws each task that has curves into ``stem`` with ``_TASK.png``."""
    paths = []
    for name, by_entry in found.items():
        if any(curve(outcome, "validation") for outcome in by_entry.values()):
            paths.append(stem.with_name(f"{stem.name}_{name}.png"))
            pictures.save(figure_of(plan, name, by_entry), paths[-1], dpi=110)
    return paths


def main() -> None:
    """Draws all tasks of the standard plan."""
    plan = plans.PLANS["standard"]
    draw_all(plan, measures.outcomes(plan, records.rows(STANDARD)), DOCS / "experiment")


if __name__ == "__main__":
    main()
